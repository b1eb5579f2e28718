// Line charts: axes, curves, and a cursor that pointer and arrow keys move along the first series' x values.

const WIDTH = 380, HEIGHT = 250, LEFT = 54, RIGHT = 10, TOP = 12, BOTTOM = 36;

function ticks(low, high, count) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(i * step);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return found.map((value) => [value, fixed(value, digits)]);
}
function logTicks(low, high) {
  const found = [];
  for (let e = Math.floor(Math.log10(low)); 10 ** e <= high; e++)
    for (const m of high / low > 100 ? [1] : [1, 2, 5])
      if (m * 10 ** e >= low * 0.999 && m * 10 ** e <= high * 1.001) found.push([m * 10 ** e, general(m * 10 ** e, 2)]);
  return found.length > 1 ? found : [low, high].map((value) => [value, general(value, 2)]);
}

// options: title, x and y (labels), series [{name, role, style: line|step|dots, x, y}], range [low, high] of y, log,
// whole (x is counted), rules [{x, text}], marks (x values of failures), notes [{role, text}], file (name without ending)
// A series of bands has y as a list of lists, one a line, and breaks: indices at which each line starts anew. Then there
// are also places [[x, name]] in place of ticks, shade [low, high] of y, tall, where(x) for what the cursor is at.
// Dots may have err, the lengths of their error bars; a line may have dots; pad leaves room beside the outermost x; goals [[x, low, high]] are bars to end in.
function chart(options) {
  const { series } = options;
  const xs = series[0].x;
  const linesOf = (s) => (s.bands ? s.y : [s.y]);
  const finite = series.flatMap((s) => [...linesOf(s).flat(), ...(s.err ? s.y.flatMap((y, i) => [y - s.err[i], y + s.err[i]]) : [])]).filter(known);
  if (!finite.length || !xs.length)
    return el("figure", {}, el("figcaption", {}, el("span", {}, options.title)), el("p", { class: "quiet" }, "No numbers."));
  let [low, high] = options.range || [Math.min(...finite), Math.max(...finite)];
  const HIGH = options.tall ? 330 : HEIGHT;
  const log = options.log && low > 0;
  if (log) [low, high] = [low / 1.15, high * 1.15];
  else if (!options.range) {
    const margin = 0.06 * (high - low) || 0.1 * Math.abs(high) || 1;
    [low, high] = [options.zero ? Math.min(0, low) : low - margin, high + margin];
  }
  let [first, last] = [Math.min(...xs), Math.max(...xs)];
  if (options.whole) [first, last] = [first - 0.5, last + 0.5];
  if (first === last) [first, last] = [first - 1, last + 1];
  if (options.pad) [first, last] = [first - 0.03 * (last - first), last + 0.03 * (last - first)];
  const px = (x) => LEFT + ((x - first) / (last - first)) * (WIDTH - LEFT - RIGHT);
  const py = (y) => {
    const share = log ? Math.log(y / low) / Math.log(high / low) : (y - low) / (high - low);
    return HIGH - BOTTOM - share * (HIGH - TOP - BOTTOM);
  };
  const clip = `clip-${chart.count = (chart.count || 0) + 1}`;
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HIGH}`, "aria-hidden": "true", xmlns: SVG });
  drawing.append(svg("clipPath", { id: clip }, svg("rect", { x: LEFT, y: TOP - 4, width: WIDTH - LEFT - RIGHT + 2, height: HIGH - TOP - BOTTOM + 4 })));
  const frame = svg("g", {}), curves = svg("g", { "clip-path": `url(#${clip})` });
  const text = (x, y, content, anchor = "middle", cls = "") => svg("text", { x, y, "text-anchor": anchor, class: cls }, content);
  for (const [value, label] of log ? logTicks(low, high) : ticks(low, high, 5)) {
    frame.append(svg("path", { class: "rule", d: `M${LEFT} ${py(value)}H${WIDTH - RIGHT}` }), text(LEFT - 6, py(value) + 4, label, "end"));
  }
  if (options.shade) {
    const [a, b] = options.shade.map((y) => Math.min(Math.max(py(y), TOP), HIGH - BOTTOM));
    frame.prepend(svg("rect", { class: "shade", x: LEFT, width: WIDTH - LEFT - RIGHT, y: b, height: a - b }));
  }
  for (const [value, label] of options.places || []) frame.append(svg("path", { class: "rule", d: `M${px(value)} ${TOP}V${HIGH - BOTTOM}` }), text(px(value), HIGH - BOTTOM + 16, label));
  for (const [value, label] of options.places ? [] : ticks(first, last, 6)) {
    if (options.whole && !Number.isInteger(value)) continue;
    frame.append(svg("path", { class: "axis", d: `M${px(value)} ${HIGH - BOTTOM}v4` }), text(px(value), HIGH - BOTTOM + 16, label));
  }
  for (const rule of options.rules || []) {
    frame.append(svg("path", { class: "rule", d: `M${px(rule.x)} ${TOP}V${HIGH - BOTTOM}` }));
    if (rule.text) frame.append(text(px(rule.x) + 3, TOP + 6, rule.text, "start", "note"));
  }
  for (const [x, a, b] of options.goals || []) frame.append(svg("path", { class: "goal", d: `M${px(x)} ${py(a)}V${py(b)}` }));
  frame.append(
    svg("path", { class: "axis", d: `M${LEFT} ${TOP}V${HIGH - BOTTOM}H${WIDTH - RIGHT}` }),
    text((LEFT + WIDTH - RIGHT) / 2, HIGH - 4, options.x),
    svg("text", { "text-anchor": "middle", transform: `translate(12 ${(TOP + HIGH - BOTTOM) / 2}) rotate(-90)` }, options.y),
  );
  for (const one of series) {
    if (one.err) curves.append(svg("path", { class: `bar ${one.role}`, d: one.x.map((x, i) => `M${px(x).toFixed(1)} ${py(one.y[i] - one.err[i]).toFixed(1)}V${py(one.y[i] + one.err[i]).toFixed(1)}`).join("") }));
    if (one.dots) one.x.forEach((x, i) => known(one.y[i]) && curves.append(dot(one.role, px(x), py(one.y[i]), 3.2)));
    if (one.style === "dots") {
      one.x.forEach((x, i) => known(one.y[i]) && curves.append(dot(one.role, px(x), py(one.y[i]), 3.2)));
      continue;
    }
    let path = "";
    for (const y of linesOf(one)) {
      let pen = false;
      one.x.forEach((x, i) => {
        if (!known(y[i])) { pen = false; return; }
        const [u, v] = [px(x).toFixed(1), py(y[i]).toFixed(1)];
        path += !pen || (one.breaks || []).includes(i) ? `M${u} ${v}` : one.style === "step" ? `H${u}V${v}` : `L${u} ${v}`;
        pen = true;
      });
    }
    curves.append(svg("path", { class: `line ${one.role}`, d: path }));
  }
  for (const x of options.marks || []) curves.append(svg("path", { class: "cross", d: `M${px(x) - 3} ${HIGH - BOTTOM - 8}l6 6m0 -6l-6 6` }));
  (options.notes || []).forEach((note, i) => frame.append(text((LEFT + WIDTH - RIGHT) / 2, TOP + 4 + 12 * i, note.text, "middle", `note ${note.role}`)));
  const cursor = svg("g", { visibility: "hidden" });
  drawing.append(frame, curves, cursor);

  const reading = el("div", { class: "reading", "aria-hidden": "true" }, "Move along the curves, or focus them and use the arrow keys.");
  const plot = el("div", { class: "plot", role: "slider", tabindex: "0", "aria-label": `${options.title}: cursor along ${options.x || options.xColumn}`,
    "aria-valuemin": xs[0], "aria-valuemax": xs[xs.length - 1], "aria-valuenow": xs[0], "aria-valuetext": "no position yet" }, drawing);
  let at = -1;
  const show = (index) => {
    at = Math.min(Math.max(index, 0), xs.length - 1);
    const x = xs[at];
    const inside = (y) => known(y) && py(y) >= TOP - 4 && py(y) <= HIGH - BOTTOM;
    const parts = series.flatMap((s) => linesOf(s).map((y) => [s, y[at]])).filter(([s, y]) => known(y) && s.x[at] === x && (!s.bands || inside(y)));
    const failed = (options.marks || []).includes(x) ? ["failed"] : [];
    const values = series.map((s) => [s, parts.filter(([own]) => own === s).map(([, y]) => (s.bands ? fixed(y, 2) : general(y, 4) + (s.err ? ` \u00b1 ${general(s.err[at], 2)}` : "")))]).filter(([, found]) => found.length);
    const words = [options.where ? options.where(at) : `${options.xShort || options.x} ${general(x, 5)}`, ...values.map(([s, found]) => `${s.name} ${found.join(", ")}`), ...failed].join(";  ");
    reading.textContent = words;
    plot.setAttribute("aria-valuenow", x);
    plot.setAttribute("aria-valuetext", words);
    cursor.setAttribute("visibility", "visible");
    cursor.replaceChildren(svg("path", { class: "cursor", d: `M${px(x)} ${TOP}V${HIGH - BOTTOM}` }),
      ...parts.filter(([, y]) => inside(y)).map(([s, y]) => dot(s.role, px(x), py(y), s.bands ? 2.5 : 4)));
  };
  plot.addEventListener("pointermove", (event) => {
    const box = drawing.getBoundingClientRect();
    const x = first + (((event.clientX - box.left) / box.width) * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT) * (last - first);
    show(xs.reduce((best, value, i) => (Math.abs(value - x) < Math.abs(xs[best] - x) ? i : best), 0));
  });
  plot.addEventListener("keydown", (event) => {
    const start = at < 0 ? Math.floor(xs.length / 2) : at;
    const to = { ArrowLeft: start - 1, ArrowDown: start - 1, ArrowRight: start + 1, ArrowUp: start + 1, Home: 0, End: xs.length - 1,
      PageUp: start + 10, PageDown: start - 10 }[event.key];
    if (to === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    show(to);
  });
  const rows = () => [
    [options.xColumn || options.x, ...series.flatMap((s) => [...linesOf(s).map((_, n) => `${s.name}${s.bands ? ` band ${n + 1}` : ""}: ${options.y}`), ...(s.err ? [`error bar: ${options.y}`] : [])])],
    ...xs.map((x, i) => [x, ...series.flatMap((s) => [...linesOf(s).map((y) => y[i]), ...(s.err ? [s.err[i]] : [])])])];
  return el("figure", {},
    el("figcaption", {}, el("span", {}, options.title),
      el("button", { type: "button", "aria-label": `CSV of ${options.title}`, onclick: () => downloadCsv(`${options.file}.csv`, rows()) }, "CSV"),
      el("button", { type: "button", "aria-label": `PNG of ${options.title}`, onclick: () => downloadPng(`${options.file}.png`, drawing) }, "PNG")),
    el("div", { class: "keys" }, ...series.map((s) => el("span", {}, key(s), s.name)),
      options.marks && options.marks.length ? el("span", {}, svg("svg", { viewBox: "0 0 32 12", "aria-hidden": "true" }, svg("path", { class: "cross", d: "M13 3l6 6m0 -6l-6 6" })), `failed (${options.marks.length})`) : null),
    plot, reading);
}
function dot(role, x, y, r) {
  return role === "published" ? svg("rect", { class: `dot ${role}`, x: x - r, y: y - r, width: 2 * r, height: 2 * r }) : svg("circle", { class: `dot ${role}`, cx: x, cy: y, r });
}
function key(one) {
  const line = one.style === "dots" ? dot(one.role, 16, 6, 3.2) : svg("path", { class: `line ${one.role}`, d: "M1 6H31" });
  return svg("svg", { viewBox: "0 0 32 12", "aria-hidden": "true" }, line, ...(one.dots ? [dot(one.role, 16, 6, 3.2)] : []));
}
