"use strict";
// Elements of the page, numbers as text, colour scales, files to download. Text goes in as text, never as markup.

const DATA = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";

function put(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name.startsWith("--") || name === "left" || name === "width" || name === "background" || name === "color")
      node.style.setProperty(name, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children) if (child !== null && child !== undefined) node.append(child);
  return node;
}
const el = (tag, attributes, ...children) => put(document.createElement(tag), attributes, children);
function svg(tag, attributes, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const known = (value) => value !== null && value !== undefined;
const minus = (text) => text.replaceAll("-", "\u2212");
function fixed(value, digits, sign) {
  if (!known(value)) return "\u2013";
  const text = value.toFixed(digits);
  if (Number(text) === 0) return text.replace("-", "");
  return minus((sign && value > 0 ? "+" : "") + text);
}
function general(value, digits = 4) {
  if (!known(value)) return "\u2013";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return minus(String(value));
  const size = Math.abs(value);
  return minus(size !== 0 && (size < 1e-3 || size >= 1e6) ? value.toExponential(digits - 1) : String(Number(value.toPrecision(digits))));
}

// The same rules as dftbparam.report.scales, which draws the image files.
function makeScale(values, signed) {
  const sizes = values.map(Math.abs);
  const high = Math.max(0, ...sizes) || 1;
  const low = Math.max(Math.min(high, ...sizes.filter((size) => size > 0)), 1e-3 * high);
  const logarithmic = !signed && high > 20 * low;
  return {
    kind: signed ? "square-root scale" : logarithmic ? "logarithmic scale" : "linear scale",
    share(value) {
      if (signed) return 0.5 + 0.5 * Math.sign(value) * Math.sqrt(Math.min(Math.abs(value) / high, 1));
      if (logarithmic) return Math.min(Math.log(Math.max(value, low) / low) / Math.log(high / low), 1);
      return Math.min(Math.max(value / high, 0), 1);
    },
    value(share) {
      if (signed) return Math.sign(share - 0.5) * (2 * share - 1) ** 2 * high;
      return logarithmic ? low * (high / low) ** share : share * high;
    },
  };
}
function colourAt(share, stops) {
  const place = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const first = Math.min(Math.floor(place), stops.length - 2);
  return [1, 3, 5].map((k) => {
    const [a, b] = [first, first + 1].map((i) => parseInt(stops[i].slice(k, k + 2), 16));
    return Math.round(a + (place - first) * (b - a));
  });
}
function inkOn(colour) {
  const [r, g, b] = colour.map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return (0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05) ** 2 > 1.05 * 0.05 ? "#000000" : "#ffffff";
}
const css = (colour) => `rgb(${colour.join(" ")})`;

// A table wider than its place says that it can be scrolled, and fades at the right until its end is reached.
function watchScroll(place) {
  const check = () => {
    place.classList.toggle("more", place.scrollWidth > place.clientWidth + 1);
    place.classList.toggle("end", place.scrollLeft + place.clientWidth >= place.scrollWidth - 1);
  };
  // In the next frame: the hint changes the height of what is observed.
  const observer = new ResizeObserver(() => requestAnimationFrame(check));
  observer.observe(place);
  for (const child of place.children) observer.observe(child);
  place.checkScroll = check;
  place.addEventListener("scroll", check, { passive: true });
  return place;
}

function download(name, blob) {
  const link = el("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
// In ASCII, which every program reads: |ΔV| becomes abs. dV, Å³ becomes A3.
const plain = (text) => text.replace(/\|\u0394([^|]*)\|/g, "abs. d$1").replace(/\u0394 ?/g, (sign) => (sign.length > 1 ? "Delta " : "d")).replaceAll("\u00c5", "A").replaceAll("\u00b3", "3").replaceAll("\u207b", "-").replaceAll("\u00b9", "1");
// The first row holds the names of the columns. Numbers of the page have less than 8 digits; what is beyond is of binary arithmetic.
function downloadCsv(name, [heads, ...body]) {
  const rows = [heads.map(plain), ...body];
  const quoted = (value) => {
    const text = !known(value) ? "" : typeof value === "number" ? String(Number(value.toPrecision(8))) : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  download(name, new Blob([rows.map((row) => row.map(quoted).join(",") + "\n").join("")], { type: "text/csv" }));
}
// A drawing as PNG, twice its size: styles are written into a copy, because an image has no style sheet.
function downloadPng(name, drawing) {
  const copy = drawing.cloneNode(true);
  const from = [drawing, ...drawing.querySelectorAll("*")];
  [copy, ...copy.querySelectorAll("*")].forEach((node, i) => {
    const style = getComputedStyle(from[i]);
    for (const key of ["fill", "stroke", "stroke-width", "stroke-dasharray", "font-family", "font-size", "font-weight", "visibility"])
      node.style.setProperty(key, style.getPropertyValue(key));
  });
  const { width, height } = drawing.viewBox.baseVal;
  copy.setAttribute("width", 2 * width);
  copy.setAttribute("height", 2 * height);
  const image = new Image();
  image.onload = () => {
    const canvas = el("canvas", {});
    canvas.width = 2 * width;
    canvas.height = 2 * height;
    const context = canvas.getContext("2d");
    context.fillStyle = getComputedStyle(document.body).backgroundColor;
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(image, 0, 0);
    canvas.toBlob((blob) => download(name, blob), "image/png");
  };
  image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(new XMLSerializer().serializeToString(copy));
}
