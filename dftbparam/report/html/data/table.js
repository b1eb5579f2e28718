// The periodic table, its legend, the summary, the list, and what happens when the page opens.

const grid = document.getElementById("grid");
const state = { figure: 0, set: "ours", order: "number", down: false };
const cells = new Map();

function valueOf(one, set = state.set, i = state.figure) {
  if (!one.ours) return null;
  const [a, b] = [one.ours[i], one.published ? one.published[i] : null];
  if (set === "ours") return a;
  if (set === "published") return b;
  if (!known(a) || !known(b)) return null;
  return DATA.figures[i].kind === "verdict" ? b - a : a - b;
}
function wording(value, set = state.set, i = state.figure) {
  const figure = DATA.figures[i];
  if (!known(value)) return "\u2013";
  if (figure.kind === "verdict") return set === "difference" ? (value < 0 ? "better" : value > 0 ? "worse" : "same") : value ? "yes" : "no";
  return fixed(value, Math.abs(value) >= 1000 ? 0 : figure.digits, set === "difference");
}
function currentScale() {
  const figure = DATA.figures[state.figure], signed = state.set === "difference";
  const sets = signed ? ["difference"] : ["ours", "published"];
  const values = figure.kind === "verdict" ? [1] : DATA.elements.flatMap((one) => sets.map((set) => valueOf(one, set))).filter(known);
  return { ...makeScale(values, signed), stops: signed ? DATA.diverging : DATA.cividis };
}

function buildGrid() {
  const rows = new Map();
  for (const one of DATA.elements) {
    const [row, column, narrowRow, narrowColumn] = one.place;
    if (!rows.has(row)) rows.set(row, el("div", { role: "row", "aria-rowindex": row }));
    const button = el("button", { type: "button", class: "cell", tabindex: "-1", id: `cell-${one.symbol}`, "--r": row, "--c": column, "--nr": narrowRow, "--nc": narrowColumn,
      onclick: () => openElement(one.symbol), onfocus: () => rove(one.symbol) },
      el("span", { class: "number", "aria-hidden": "true" }, one.number), el("span", { class: "symbol" }, one.symbol), el("span", { class: "value" }));
    cells.set(one.symbol, button);
    rows.get(row).append(el("div", { role: "gridcell", "aria-colindex": column }, button));
  }
  grid.append(...[...rows].sort((a, b) => a[0] - b[0]).map(([, row]) => row), el("div", { class: "gap", role: "presentation" }));
  const start = DATA.elements.find((one) => one.ours) || DATA.elements[0];
  rove(start.symbol);
}
function rove(symbol) {
  for (const [name, cell] of cells) cell.tabIndex = name === symbol ? 0 : -1;
}
function focusCell(symbol, focus) {
  if (!cells.has(symbol)) return;
  rove(symbol);
  if (focus) cells.get(symbol).focus();
}
// By where cells are on the screen, because the narrow table is another one than the wide.
function neighbour(from, dx, dy) {
  const centre = (cell) => { const b = cell.getBoundingClientRect(); return [b.left + b.width / 2, b.top + b.height / 2]; };
  const [x, y] = centre(from);
  let best = null, least = Infinity;
  for (const cell of cells.values()) {
    const [u, v] = centre(cell).map((c, i) => c - [x, y][i]);
    const along = u * dx + v * dy, across = Math.abs(u * dy) + Math.abs(v * dx);
    if (along > 4 && along + 4 * across < least && (dy !== 0 || across < 4)) { best = cell; least = along + 4 * across; }
  }
  return best;
}
let typed = "", typedAt = 0;
grid.addEventListener("keydown", (event) => {
  const cell = event.target.closest(".cell");
  if (!cell || event.altKey || event.metaKey) return;
  const all = [...cells.values()], order = all.indexOf(cell);
  const box = cell.getBoundingClientRect();
  const sameRow = all.filter((c) => Math.abs(c.getBoundingClientRect().top - box.top) < 4).sort((a, b) => a.getBoundingClientRect().left - b.getBoundingClientRect().left);
  let to;
  if (event.key === "ArrowLeft") to = neighbour(cell, -1, 0) || all[order - 1];
  else if (event.key === "ArrowRight") to = neighbour(cell, 1, 0) || all[order + 1];
  else if (event.key === "ArrowUp") to = neighbour(cell, 0, -1);
  else if (event.key === "ArrowDown") to = neighbour(cell, 0, 1);
  else if (event.key === "Home") to = event.ctrlKey ? all[0] : sameRow[0];
  else if (event.key === "End") to = event.ctrlKey ? all[all.length - 1] : sameRow[sameRow.length - 1];
  else if (/^[a-z]$/i.test(event.key) && !event.ctrlKey) {
    typed = event.timeStamp - typedAt < 900 ? typed + event.key : event.key;
    typedAt = event.timeStamp;
    const name = typed[0].toUpperCase() + typed.slice(1).toLowerCase();
    to = cells.get(name) || all.find((c) => c.id.startsWith(`cell-${name}`));
  } else return;
  event.preventDefault();
  if (to) to.focus();
});

function paint() {
  const figure = DATA.figures[state.figure];
  const scale = figure ? currentScale() : null;
  for (const one of DATA.elements) {
    const cell = cells.get(one.symbol), value = figure ? valueOf(one) : null;
    cell.className = `cell ${known(value) ? "result" : "empty"}${one.left_out ? " left-out" : ""}${one.reason && /\.(json|csv):/.test(one.reason) ? " damaged" : ""}`;
    cell.lastChild.textContent = known(value) ? wording(value) : one.left_out ? "out" : one.ours ? "\u2013" : "";
    cell.lastChild.hidden = !one.ours && !one.left_out;
    const colour = known(value) ? colourAt(scale.share(value), scale.stops) : null;
    cell.style.background = colour ? css(colour) : "";
    cell.style.color = colour ? inkOn(colour) : "";
    const what = one.left_out ? one.reason : !one.ours ? `no result: ${one.reason}` : `${figure ? figure.label : ""}, ${DATA.sets[state.set]}: ${known(value) ? wording(value) : "no number"} ${known(value) && figure ? figure.unit : ""}`;
    const run = DATA.live ? runOf(one.symbol) : null;
    if (run && run.state !== "finished") cell.dataset.state = run.state;
    else delete cell.dataset.state;
    cell.setAttribute("aria-label", `${one.name}, ${one.symbol}, ${one.number}; ${what.trim()}${run ? `; ${run.state}` : ""}`);
  }
  if (!figure) return;
  document.getElementById("figure-text").textContent = figure.text + (state.set === "difference" ? " Difference: this fit minus published PTBP." : "");
  legend(figure, scale);
  list(figure);
}
function legend(figure, scale) {
  const place = document.getElementById("legend"), signed = state.set === "difference";
  const empty = el("span", { class: "others" }, el("span", {}, el("i", {}), "no result"), DATA.elements.some((one) => one.left_out) ? el("span", {}, el("i", { class: "left-out" }), "left out of the set") : null);
  if (figure.kind === "verdict") {
    const entries = signed ? [[-1, "better than PTBP"], [0, "same"], [1, "worse"]] : [[1, "yes"], [0, "no"]];
    place.replaceChildren(el("div", { class: "swatches" }, ...entries.map(([value, text]) => el("span", {}, el("i", { background: css(colourAt(scale.share(value), scale.stops)) }), text)), empty));
    return;
  }
  const bar = scale.stops.map((stop, i) => `${stop} ${(100 * i) / (scale.stops.length - 1)}%`).join(", ");
  const shares = [0, 0.25, 0.5, 0.75, 1];
  const digits = Math.max(figure.digits, 1);
  place.replaceChildren(
    el("div", { class: "bar", background: `linear-gradient(to right, ${bar})` }),
    el("div", { class: "ticks" }, ...shares.map((share) => el("span", { left: `${100 * share}%` }, fixed(scale.value(share), Math.abs(scale.value(share)) >= 100 ? 0 : digits, signed)))),
    el("div", { class: "swatches quiet" }, el("span", {}, `${figure.label}${figure.unit ? `, ${figure.unit}` : ""}; ${scale.kind}${signed ? "; blue: this fit is better, orange: PTBP is" : ", the same for both sets"}`), empty));
}

// What stands at the top: means of both sets over the elements that both have.
function headlines() {
  const place = document.getElementById("tiles");
  const rows = DATA.headlines.map((key) => DATA.summary.find((row) => row.key === key)).filter(known).map(withFigure);
  document.getElementById("headlines").hidden = !rows.length;
  place.replaceChildren(...rows.map((row) => el("li", {},
    el("h3", {}, row.figure.label + (row.figure.unit ? `, ${row.figure.unit}` : "")),
    el("dl", {}, ...["ours", "published"].flatMap((set) => [el("dt", {}, el("span", { class: `mark ${set}` }), DATA.sets[set]), el("dd", {}, summed(row, set))])),
    el("p", { class: "quiet" }, `${known(row.ratio) ? `${general(row.ratio, 2)} of PTBP's; ` : ""}better on ${row.better} of ${row.n}${row.equal ? `, equal on ${row.equal}` : ""}`))));
  const most = Math.max(0, ...rows.map((row) => row.n));
  const out = DATA.elements.filter((one) => one.left_out).length, apart = DATA.figures.some((figure) => figure.key === "elemental_dV");
  const over = apart ? "An element's error is the mean over its own crystals or over its compounds, never over both together, and what stands here is the mean of these over elements"
    : "An element's error is the mean over its crystals, and what stands here is the mean of these over elements";
  document.getElementById("headline-text").textContent = `Over the ${most} elements that both sets have, each figure over those for which both have a number. ${over}; crystals that implode are counted.`
    + (out ? ` Elements left out of the set (${out}) count nowhere.` : "");
}
const withFigure = (row) => ({ ...row, figure: DATA.figures.find((f) => f.key === row.key) });
const summed = (row, key) => (row.figure.kind === "verdict" ? `${row[key]} of ${row.n}` : row.figure.kind === "count" ? String(row[key]) : general(row[key], 3));
function summary() {
  const place = document.getElementById("summary"), section = place.closest("section");
  section.hidden = !DATA.summary.length;
  if (section.hidden) return;
  const made = table([["figure", (r) => r.figure.label + (r.figure.unit ? `, ${r.figure.unit}` : ""), { left: true }], ["elements", "n"], [DATA.sets.ours, (r) => summed(r, "ours")], [DATA.sets.published, (r) => summed(r, "published")],
    ["ratio", (r) => general(r.ratio, 2)], ["median, this fit", (r) => general(r.ours_median, 3)], ["median, PTBP", (r) => general(r.published_median, 3)], ["this fit better", "better"], ["equal", "equal"]], DATA.summary.map(withFigure));
  place.replaceChildren(...made.querySelector("table").children);
}
const setsShown = () => (DATA.elements.some((one) => one.published) ? ["ours", "published", "difference"] : ["ours"]);
function list(figure) {
  const place = document.getElementById("list");
  const sets = setsShown();
  if (!sets.includes(state.order)) state.order = "number";
  const rows = DATA.elements.filter((one) => one.ours);
  const key = (one) => (state.order === "number" ? one.number : valueOf(one, state.order));
  rows.sort((a, b) => {
    const [u, v] = [key(a), key(b)];
    if (!known(u) || !known(v)) return known(u) ? -1 : known(v) ? 1 : a.number - b.number;
    return (state.down ? v - u : u - v) || a.number - b.number;
  });
  const heads = [["number", "element"], ...sets.map((set) => [set, DATA.sets[set]])];
  const head = el("tr", {}, ...heads.map(([order, text]) => el("th", { scope: "col", class: order === "number" ? "left" : null, "aria-sort": state.order === order ? (state.down ? "descending" : "ascending") : "none" },
    el("button", { type: "button", "data-order": order, onclick: () => { state.down = state.order === order ? !state.down : false; state.order = order; list(figure); place.querySelector(`[data-order=${order}]`).focus(); } },
      text + (state.order === order ? (state.down ? " \u2193" : " \u2191") : "")))));
  place.replaceChildren(el("caption", {}, `${figure.label}${figure.unit ? `, ${figure.unit}` : ""}`), el("thead", {}, head),
    el("tbody", {}, ...rows.map((one) => el("tr", {}, el("th", { scope: "row", class: "left" }, el("a", { href: `#${one.symbol}`, onclick: (event) => { event.preventDefault(); openElement(one.symbol); } }, `${one.symbol} ${one.name}`)),
      ...sets.map((set) => el("td", {}, wording(valueOf(one, set), set)))))));
}

// The lists to choose from; again where newer numbers have other figures.
function choices() {
  const choice = document.getElementById("figure"), sets = document.getElementById("sets");
  choice.replaceChildren(...DATA.figures.map((figure, i) => el("option", { value: i, selected: i === state.figure }, figure.label + (figure.unit ? `, ${figure.unit}` : ""))));
  const offered = setsShown();
  if (!offered.includes(state.set)) state.set = "ours";
  if (offered.length === sets.querySelectorAll("input").length) return;
  for (const label of sets.querySelectorAll("label")) label.remove();
  for (const set of offered) {
    sets.append(el("label", {}, el("input", { type: "radio", name: "set", value: set, checked: set === state.set, onchange: () => { state.set = set; paint(); } }), DATA.sets[set]));
  }
}
function controls() {
  const choice = document.getElementById("figure");
  choices();
  choice.addEventListener("change", () => { state.figure = Number(choice.value); paint(); });
  document.getElementById("controls").addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("png-table").addEventListener("click", pngOfTable);
  document.getElementById("csv-all").addEventListener("click", () => {
    const sets = setsShown(), only = DATA.only || [];
    const stands = (one) => (one.ours ? "yes" : one.left_out ? "left out" : "no");
    const value = (one, set, i) => (DATA.figures[i].kind === "verdict" && known(valueOf(one, set, i)) ? wording(valueOf(one, set, i), set, i) : valueOf(one, set, i));
    downloadCsv("elements.csv", [["number", "symbol", "name", "result", ...DATA.figures.flatMap((f) => sets.map((set) => `${f.label}${f.unit ? ` (${f.unit})` : ""} [${DATA.sets[set]}]`)), "reason"],
      ...DATA.elements.filter((one) => !only.length || only.includes(one.symbol)).map((one) => [one.number, one.symbol, one.name, stands(one), ...DATA.figures.flatMap((_, i) => sets.map((set) => value(one, set, i))), one.reason])]);
  });
}
// The periodic table as it is coloured, always in its wide form.
function pngOfTable() {
  const side = 76, top = 64, canvas = document.createElement("canvas"), figure = DATA.figures[state.figure];
  if (!figure) return;
  [canvas.width, canvas.height] = [18 * side + 20, top + 10 * side + 60];
  const context = canvas.getContext("2d"), page = getComputedStyle(document.body);
  const write = (text, x, y, size, weight = 400) => { context.font = `${weight} ${size}px system-ui, sans-serif`; context.fillText(text, x, y); };
  context.fillStyle = page.backgroundColor;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = page.color;
  write(`${figure.label}${figure.unit ? ` (${figure.unit})` : ""}, ${DATA.sets[state.set]}`, 12, 36, 26, 600);
  context.textAlign = "center";
  for (const one of DATA.elements) {
    const [row, column] = one.place, value = valueOf(one), style = getComputedStyle(cells.get(one.symbol));
    const [x, y] = [10 + (column - 1) * side, top + (row - 1) * side - (row > 7 ? side / 2 : 0)];
    if (known(value)) { context.fillStyle = style.backgroundColor; context.fillRect(x + 2, y + 2, side - 4, side - 4); }
    context.strokeStyle = style.borderColor;
    if (one.left_out) {
      context.beginPath();
      context.globalAlpha = 0.4;
      for (let d = 8; d < side - 4; d += 8) { context.moveTo(x + 2, y + 2 + d); context.lineTo(x + 2 + d, y + 2); context.moveTo(x + 2 + d, y + side - 2); context.lineTo(x + side - 2, y + 2 + d); }
      context.stroke();
      context.globalAlpha = 1;
    }
    context.strokeRect(x + 2, y + 2, side - 4, side - 4);
    context.fillStyle = style.color;
    write(one.number, x + side / 2, y + 17, 12);
    write(one.symbol, x + side / 2, y + 42, 24, 600);
    if (one.ours || one.left_out) write(known(value) ? wording(value) : one.left_out ? "out" : "\u2013", x + side / 2, y + 64, 16);
  }
  context.fillStyle = page.color;
  context.textAlign = "left";
  write(document.getElementById("legend").textContent ? legendText() + (DATA.elements.some((one) => one.left_out) ? "; hatched: left out of the set" : "") : "", 12, canvas.height - 20, 16);
  canvas.toBlob((blob) => download(`table-${figure.key.replace(".", "-")}-${state.set}.png`, blob), "image/png");
}
function legendText() {
  const figure = DATA.figures[state.figure], scale = currentScale();
  if (figure.kind === "verdict") return state.set === "difference" ? "blue: better than PTBP, orange: worse" : "yellow: yes, blue: no";
  return `${scale.kind}; ${state.set === "difference" ? "blue: this fit is better, orange: PTBP is" : "dark: small, bright: large, the same for both sets"}`;
}
function remarks() {
  const listed = (items) => el("ul", {}, ...items.map((item) => el("li", {}, item)));
  document.getElementById("problems").replaceChildren(...(DATA.problems.length
    ? [el("div", { class: "alert", role: "note" }, el("strong", {}, "Some files could not be read; this report is incomplete."), listed(DATA.problems.map(([where, why]) => `${where}: ${why}`)))] : []));
  document.getElementById("notes").replaceChildren(...(DATA.notes.length ? [el("h2", {}, "Notes"), listed(DATA.notes)] : []));
  const n = DATA.elements.filter((one) => one.ours).length, out = DATA.elements.filter((one) => one.left_out).map((one) => one.symbol);
  const left = out.length ? `; ${out.length} ${out.length === 1 ? "is" : "are"} left out of the set (${out.join(", ")})` : "";
  const asked = (DATA.only || []).length;
  const models = (DATA.deltas || []).length;
  document.getElementById("intro").textContent = !n && models ? `${models} delta ${models === 1 ? "model" : "models"}. Errors are against the reference, on structures held out.` : `${n} of ${asked ? `${asked} ${asked === 1 ? "element" : "elements"} asked for` : `${DATA.elements.length} elements`} have a result${left}. Errors are against DFT, on the crystals that each element's card names.`;
}

for (const place of document.querySelectorAll(".scroll")) watchScroll(place);
buildGrid();
controls();
remarks();
headlines();
summary();
paint();
deltas();
if (DATA.live) startLive();
if (cells.has(location.hash.slice(1))) openElement(location.hash.slice(1));
window.addEventListener("hashchange", () => { if (cells.has(location.hash.slice(1))) openElement(location.hash.slice(1)); });
