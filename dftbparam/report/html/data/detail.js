// One element in a dialog: curves, cards, parameters, provenance.

const SETS = { dft: "DFT", ours: DATA.sets.ours, published: DATA.sets.published };
const dialog = document.getElementById("detail");

// columns: [head, key or function of a row, {digits, sign, left, wrap}]
function table(columns, rows, options = {}) {
  const body = el("tbody", {});
  let group;
  for (const row of rows) {
    const starts = options.group && row[options.group] !== group;
    group = options.group && row[options.group];
    body.append(el("tr", { class: starts ? "group" : null }, ...columns.map(([, key, form = {}]) => {
      const value = typeof key === "function" ? key(row) : row[key];
      const content = value instanceof Node ? value : form.digits !== undefined && typeof value === "number" ? fixed(value, form.digits, form.sign) : general(value, 5);
      return el("td", { class: [form.left ? "left" : "", form.wrap ? "wrap" : ""].join(" ").trim() || null }, content);
    })));
  }
  const head = el("thead", {}, el("tr", {}, ...columns.map(([text, , form = {}]) => el("th", { scope: "col", class: form.left ? "left" : null }, text))));
  return watchScroll(el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": options.label || "table" }, el("table", { class: options.fit ? "fit" : null }, head, body)));
}
const setName = (row) => el("span", {}, el("span", { class: `mark ${row.set}` }), SETS[row.set] || row.set);

function energyVolume(symbol, curve, both) {
  const series = [{ name: "DFT", role: "dft", style: "line", x: curve.v, y: curve.dft }];
  for (const role of ["ours", "published"])
    if (curve[role]) series.push({ name: SETS[role], role, style: "line", x: curve.v, y: curve[role] });
  // The reference's rise within 15 % of its volume is the unit in which the axis is measured out, so that a wildly
  // stiff curve is cut off rather than presses the reference flat.
  const lowest = (y) => Math.min(...y.filter(known));
  const zero = lowest(curve.dft), centre = curve.v[curve.dft.indexOf(zero)];
  const near = curve.dft.filter((e, i) => Math.abs(curve.v[i] / centre - 1) <= 0.151);
  const unit = Math.max(Math.max(...near) - zero, 0.05);
  const minima = series.map((s) => [s, lowest(s.y)]);
  const framed = minima.filter(([s, low]) => s.role !== "published" || Math.abs(low - zero) <= 5 * unit).map(([, low]) => low);
  const highest = Math.max(...series.flatMap((s) => s.y).filter(known));
  const top = Math.min(Math.max(...framed) + 1.3 * unit, highest);
  const margin = 0.05 * (top - Math.min(...framed));
  const range = [Math.min(...framed) - margin, top + margin];
  const notes = minima.filter(([, low]) => low < range[0] || low > range[1]).map(([s, low]) => ({
    role: s.role, text: `${s.name}: minimum outside, ${fixed(Math.abs(low - zero), 2)} eV/atom ${low < zero ? "below" : "above"} DFT's` }));
  for (const role of both ? ["ours", "published"] : ["ours"]) if (curve[role] === null) notes.push({ role, text: `${SETS[role]}: no minimum` });
  return chart({ title: curve.name, x: "volume (Å³/atom)", xShort: "V", y: "energy (eV/atom)", series, range, notes,
    rules: [{ x: centre }], file: `${symbol}-energy-volume-${curve.name.replaceAll(" ", "-")}` });
}

function convergence(symbol, found) {
  let best = null;
  const so = found.objective.map((value) => (best = known(value) && (best === null || value < best) ? value : best));
  const good = found.objective.filter(known);
  return chart({ title: "Convergence of the search", x: "trial", y: "objective", whole: true, file: `${symbol}-convergence`,
    series: [{ name: "trial", role: "trial", style: "dots", x: found.index, y: found.objective },
      { name: "best so far", role: "best", style: "step", x: found.index, y: so }],
    marks: found.index.filter((_, i) => !known(found.objective[i])),
    log: good.length && Math.min(...good) > 0 && Math.max(...good) > 20 * Math.min(...good),
    rules: known(found.initial) && found.initial < found.index.length ? [{ x: found.initial - 0.5, text: "model takes over" }] : [] });
}

function bandErrors(symbol, rows) {
  return [...new Set(rows.map((row) => row.crystal))].map((crystal) => {
    const here = rows.filter((row) => row.crystal === crystal && row.per_band && row.per_band.length);
    const longest = Math.max(0, ...here.map((row) => row.per_band.length));
    const x = Array.from({ length: longest }, (_, i) => i + 1);
    return here.length ? chart({ title: `Bands, ${crystal}: error of each`, x: "band, the lowest first", xShort: "band", y: "rms error (eV)", whole: true, zero: true,
      series: here.map((row) => ({ name: SETS[row.set], role: row.set, style: "dots", x, y: x.map((i) => row.per_band[i - 1] ?? null) })),
      file: `${symbol}-bands-${crystal.replaceAll(" ", "-")}` }) : null;
  });
}

// DFT's and the sets' bands along the path of the reference; levels come in units of 10 meV.
function bandLines(symbol, one) {
  const series = ["dft", "ours", "published"].filter((role) => one[role])
    .map((role) => ({ name: SETS[role], role, style: "line", bands: true, breaks: one.breaks, x: one.x, y: one[role].map((band) => band.map((level) => level / 100)) }));
  const width = one.x[one.x.length - 1] || 1;
  const places = one.labels.filter(([x], i) => !i || x - one.labels[i - 1][0] > 0.035 * width || i === one.labels.length - 1);
  const where = (at) => {
    const named = one.labels.find(([x]) => Math.abs(x - one.x[at]) < 1e-4);
    const after = one.labels.findIndex(([x]) => x > one.x[at]);
    return named ? `at ${named[1]}` : after > 0 ? `between ${one.labels[after - 1][1]} and ${one.labels[after][1]}` : `k ${general(one.x[at], 4)}`;
  };
  return chart({ title: one.crystal, x: "", xColumn: "length of the path (1/Å)", y: "energy above the Fermi level (eV)", series, range: one.range, shade: one.window, places, where, tall: true,
    file: `${symbol}-bands-${one.crystal.replaceAll(" ", "-")}` });
}

function rangeBar(row) {
  if (!known(row.low) || !known(row.high) || typeof row.value !== "number") return "";
  const place = (v) => 100 * Math.min(Math.max(row.log ? Math.log(v / row.low) / Math.log(row.high / row.low) : (v - row.low) / (row.high - row.low), 0), 1);
  const stretch = (name, a, b) => el("i", { class: name, left: `${place(a)}%`, width: `${Math.max(place(b) - place(a), 0)}%` });
  return el("div", { class: "span", "aria-hidden": "true" }, el("i", { class: "track" }),
    row.interval ? stretch("interval", ...row.interval) : null, known(row.least) ? stretch("spread", row.least, row.greatest) : null,
    el("i", { class: "best", left: `${place(row.value)}%` }));
}

function parameters(d) {
  const parts = [];
  if (d.parameters.length) {
    const uncertain = d.parameters.some((row) => known(row.std));
    const columns = [["parameter", "name", { left: true }], ["value", "value"], ["unit", "unit", { left: true }], ["in the search range", rangeBar, { left: true }],
      ["from", "low"], ["to", "high"]];
    if (uncertain) columns.push(["std", "std"], ["least", "least"], ["greatest", "greatest"],
      ["alone from", (row) => (row.interval ? general(row.interval[0]) : "\u2013")], ["alone to", (row) => (row.interval ? general(row.interval[1]) : "\u2013")], ["total effect", "effect", { digits: 2 }]);
    parts.push(el("h3", {}, "Parameters of the search"), table(columns, d.parameters, { label: "Parameters of the search" }));
    const e = d.ensemble;
    parts.push(el("p", { class: "quiet" }, e
      ? `Dot: the trial chosen. Blue: ${e.n} ${e.n === 1 ? "trial" : "trials"} within ${fixed(100 * e.tolerance, 0)} % of the best objective. Light: how far the parameter alone may move before the objective has grown as much, by a model${known(e.r2) ? ` (R² ${fixed(e.r2, 2)})` : ""}. Total effect: its share in the variance of the objective.`
      : "This run records no uncertainty."));
    if (e && e.crystals.length) {
      const spread = (key, digits) => (row) => (row[key] ? `${fixed(row[key][0], digits, true)} (${fixed(row[key][3], digits, true)} to ${fixed(row[key][4], digits, true)})` : "\u2013");
      parts.push(table([["crystal", "name", { left: true }], ["ΔV, %", spread("dV", 1)], ["ΔB, %", spread("dB", 1)], ["ΔE of phase, eV", spread("dE", 3)]], e.crystals, { label: "Spread over near-optimal trials" }),
        el("p", { class: "quiet" }, "Errors of the best trial and their range over the near-optimal trials, by the coarser fits of the search."));
    }
    if (e && e.rows.length > 1)
      parts.push(el("details", {}, el("summary", {}, `Near-optimal trials (${e.rows.length} of ${e.n})`),
        table([["trial", (r) => r[0]], ["objective", (r) => r[1]], ...e.names.map((name, i) => [name, (r) => r[2 + i]])], e.rows, { label: "Near-optimal trials" })));
  }
  if (d.record.length)
    parts.push(el("details", {}, el("summary", {}, "The parameter record that tables are built from (Bohr, Hartree)"),
      table([["name", (r) => r[0], { left: true }], ["value", (r) => r[1], { left: true, wrap: true }]], d.record, { label: "Parameter record" })));
  return parts;
}

// A difference with a word and a mark for which side is better, not by colour alone.
function compared(value, figure) {
  if (!known(value)) return "\u2013";
  const word = value < 0 ? "better" : value > 0 ? "worse" : "same";
  return el("span", {}, figure.kind === "verdict" ? "" : `${value > 0 ? "+" : ""}${general(value, 3)} `, el("span", { class: `verdict ${word}` }, word));
}

function content(one) {
  const about = el("p", { class: "quiet" }, `Valence: ${one.valence}. ${one.choice}`);
  if (one.left_out) {
    const why = el("p", { class: "alert" }, el("strong", {}, "Left out of the set. "), one.reason.replace(/^left out of the set: /, "The gate: "));
    if (!one.left_out.detail) return [why, about];
    return [why, el("p", { class: "quiet" }, "What follows was fitted and scored, and was not published; it counts in no mean."), ...content({ ...one, ...one.left_out, left_out: null })];
  }
  if (!one.detail) return [el("p", { class: "alert" }, el("strong", {}, "No result. "), one.reason), about];
  const d = one.detail, parts = [about];
  if (d.remark) parts.push(el("p", { class: "alert remark" }, d.remark));
  const figures = DATA.figures.map((figure, i) => ({ figure, i, ours: one.ours[i], published: one.published ? one.published[i] : null })).filter((row) => known(row.ours) || known(row.published));
  parts.push(el("h3", {}, "Report card"), table([["figure", (r) => r.figure.label + (r.figure.unit ? `, ${r.figure.unit}` : ""), { left: true }],
    ...(one.published ? ["ours", "published"] : ["ours"]).map((set) => [SETS[set], (r) => (r.figure.kind === "verdict" ? (known(r[set]) ? (r[set] ? "yes" : "no") : "\u2013") : general(r[set]))]),
    ...(one.published ? [[DATA.sets.difference, (r) => compared(valueOf(one, "difference", r.i), r.figure)]] : [])], figures, { label: "Report card", fit: true }));
  if (d.curves.length) parts.push(el("h3", {}, "Energy against volume"), el("div", { class: "charts" }, ...d.curves.map((curve) => energyVolume(one.symbol, curve, Boolean(one.published)))),
    el("p", { class: "quiet" }, "Birch-Murnaghan fits, each within 15 % of its minimum; energies above the crystal that is most stable in DFT."));
  if (d.crystals.length) parts.push(el("h3", {}, "Crystals"), table([["crystal", "crystal", { left: true }], ["set", setName, { left: true }], ["V, Å³/atom", "volume", { digits: 2 }], ["ΔV, %", "dV", { digits: 1, sign: true }],
    ["B, GPa", "bulk_modulus", { digits: 1 }], ["ΔB, %", "dB", { digits: 1, sign: true }], ["E, eV/atom", "phase_energy", { digits: 3 }], ["ΔE", "dE", { digits: 3, sign: true }], ["Δ gauge, meV", "delta", { digits: 1 }],
    ["status", (r) => (r.implodes ? `implodes: ${r.status}` : r.status && r.status !== "ok" ? r.status : r.set === "dft" ? "" : "ok"), { left: true, wrap: true }]], d.crystals, { group: "crystal", label: "Crystals" }));
  parts.push(el("h3", {}, "Bands"));
  if (d.levels.length) parts.push(el("div", { class: "charts wide" }, ...d.levels.map((levels) => bandLines(one.symbol, levels))),
    el("p", { class: "quiet" }, "Along the path of the reference, at its volume. Shaded: the states that the error near the Fermi level counts, within 5 eV of it or of the band edges. Metals are aligned at the Fermi level, insulators at the weighted mean of their bands."));
  else parts.push(el("p", { class: "quiet" }, d.no_levels));
  if (d.bands.length) parts.push(table([["crystal", "crystal", { left: true }], ["set", setName, { left: true }], ["rms near the Fermi level, eV", "rms_near", { digits: 2 }], ["largest", "max_abs_near", { digits: 2 }],
    ["mean", "mean", { digits: 2, sign: true }], ["gap, eV", "gap", { digits: 2 }], ["DFT gap", "reference_gap", { digits: 2 }], ["Δgap", "gap_error", { digits: 2, sign: true }], ["bands missing", "n_missing"]], d.bands, { label: "Bands" }),
    el("div", { class: "charts" }, ...bandErrors(one.symbol, d.bands)));
  if (d.formation.length) parts.push(el("h3", {}, "Formation energies, eV/atom"), table([["crystal", "crystal", { left: true }], ["set", setName, { left: true }], ["energy", "formation_energy", { digits: 3 }], ["DFT", "reference_formation_energy", { digits: 3 }], ["error", "error", { digits: 3, sign: true }]], d.formation, { label: "Formation energies" }));
  if (d.derivatives.length) parts.push(el("h3", {}, "Forces and stress"), table([["section", "section", { left: true }], ["number", "name", { left: true }], [SETS.ours, "ours"], [SETS.published, "published"]], d.derivatives, { label: "Forces and stress" }));
  if (d.transfer.length) parts.push(el("h3", {}, "Transfer: partners left out of the fit"), table([["left out", "partner", { left: true }], ["crystal", "crystal", { left: true }], ["set", "set", { left: true }], ["ΔV, %", "dV", { digits: 1, sign: true }], ["ΔB, %", "dB", { digits: 1, sign: true }], ["ΔE", "phase_energy_error", { digits: 3, sign: true }], ["status", "status", { left: true, wrap: true }]], d.transfer, { group: "crystal", label: "Transfer" }));
  if (d.missing.length) parts.push(el("h3", {}, "Could not be scored"), table([["what", (r) => r[1], { left: true }], ["why", (r) => r[2], { left: true, wrap: true }]], d.missing, { label: "Could not be scored" }));
  if (d.convergence) parts.push(el("h3", {}, "Search"), el("div", { class: "charts single" }, convergence(one.symbol, d.convergence)),
    d.convergence.errors.length ? el("p", { class: "quiet" }, `Failed trials: ${d.convergence.errors.map(([name, n]) => `${n} ${name}`).join(", ")}.`) : null);
  parts.push(...parameters(d), el("h3", {}, "Provenance"), el("dl", {}, ...d.provenance.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)])));
  if (d.files.length) parts.push(el("details", {}, el("summary", {}, `Files of the run (${d.files.length})`), table([["file", (r) => r[0], { left: true }], ["bytes", (r) => r[1]], ["SHA-256", (r) => el("code", {}, r[2]), { left: true, wrap: true }]], d.files, { label: "Files of the run" })));
  return parts;
}

function openElement(symbol) {
  const one = DATA.elements.find((e) => e.symbol === symbol);
  if (!one) return;
  history.replaceState(null, "", `#${symbol}`);
  if (DATA.live) openLive(one, false);
  else showElement(one);
}
// instead: what to show in place of the content; again: the element is open already, and the reader stays where he is.
function showElement(one, instead, again) {
  const shown = DATA.elements.filter((e) => e.ours || e.left_out), from = dialog.scrollTop;
  const places = () => [...dialog.querySelectorAll("button, summary, [tabindex='0']")];
  const focus = again ? places().indexOf(document.activeElement) : -1;
  const opened = again ? [...dialog.querySelectorAll("details")].map((d) => d.open) : [];
  const step = (by) => {
    const others = by > 0 ? shown.filter((e) => e.number > one.number) : shown.filter((e) => e.number < one.number).reverse();
    return el("button", { type: "button", disabled: !others.length, "aria-label": others.length ? `${by > 0 ? "Next" : "Previous"}: ${others[0].name}` : `No ${by > 0 ? "next" : "previous"} element`,
      onclick: () => openElement(others[0].symbol) }, by > 0 ? "\u2192" : "\u2190");
  };
  const close = el("button", { type: "button", onclick: () => dialog.close() }, "Close");
  dialog.replaceChildren(
    el("div", { class: "detail-top" }, el("h2", { id: "detail-head", tabindex: "-1" }, `${one.number} ${one.symbol}, ${one.name}`), step(-1), step(1), close),
    el("div", { class: "detail-body" }, ...(instead ? [instead] : content(one))));
  if (!dialog.open) dialog.showModal();
  [...dialog.querySelectorAll("details")].forEach((d, i) => { if (opened[i]) d.open = true; });
  // Before the place is restored: hints to scroll change heights.
  for (const place of dialog.querySelectorAll(".scroll")) place.checkScroll?.();
  dialog.scrollTop = again ? from : 0;
  if (focus >= 0) places()[focus]?.focus({ preventScroll: true });
  else document.getElementById("detail-head").focus({ preventScroll: true });
  focusCell(one.symbol, false);
}
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("close", () => {
  const symbol = location.hash.slice(1);
  history.replaceState(null, "", location.pathname + location.search);
  dialog.replaceChildren();
  focusCell(symbol, true);
});
