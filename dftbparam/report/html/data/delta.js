// Delta models: errors on what was held out, parity, calibration and learning curves, as their files record them.

const evs = "eV/atom";

function parity(model, level) {
  const { reference, predicted, std, group, groups } = level.held_out;
  return chart({ pad: true, title: `Parity, ${level.name}`, x: `reference (${evs}, without element offsets)`, xShort: "reference", y: `predicted (${evs})`,
    series: [{ name: "predicted = reference", role: "dft", style: "line", x: reference, y: reference },
      { name: "predicted, with error bar", role: "ours", style: "dots", x: reference, y: predicted, err: std }],
    where: (at) => `${groups[group[at]]}: reference ${general(reference[at], 5)}`, file: `delta-${model.file}-${level.file}-parity` });
}
function calibrationOf(model, level) {
  const x = level.held_out.calibration.map(([p]) => p);
  return chart({ pad: true, title: `Calibration, ${level.name}`, x: "part of errors that should lie within", xShort: "should", y: "part that does", range: [0, 1],
    series: [{ name: "honest error bars", role: "dft", style: "line", x, y: x },
      { name: "this model", role: "ours", style: "line", dots: true, x, y: level.held_out.calibration.map(([, share]) => share) }],
    goals: [[0.6827, 0.6, 0.75], [0.9545, 0.92, 0.98]], file: `delta-${model.file}-${level.file}-calibration` });
}
function learningOf(model, level) {
  const own = level.learning.model, other = level.learning.without_base || [];
  const x = own.map(([n]) => n);
  const series = [{ name: model.model, role: "ours", style: "line", dots: true, x, y: own.map(([, error]) => error) }];
  if (other.length) series.push({ name: "without DFTB", role: "published", style: "line", dots: true, x, y: x.map((n) => (other.find(([m]) => m === n) || [n, null])[1]) });
  return chart({ pad: true, title: `Learning curve, ${level.name}`, x: "training structures", xShort: "structures", y: `held-out error (${evs})`, log: true, series,
    file: `delta-${model.file}-${level.file}-learning` });
}
const yes = (value) => (known(value) ? (value ? "yes" : "no") : "\u2013");
function errorsByGroup(level) {
  const { reference, predicted, std, group, groups } = level.held_out;
  return groups.map((name, k) => {
    const mine = group.map((g, i) => i).filter((i) => group[i] === k);
    const mean = (values) => Math.sqrt(values.reduce((sum, v) => sum + v * v, 0) / values.length);
    const errors = mine.map((i) => predicted[i] - reference[i]);
    return { name, n: mine.length, rmse: mean(errors), largest: Math.max(...errors.map(Math.abs)), bar: mean(mine.map((i) => std[i])) };
  });
}
function deltaModel(model) {
  const charts = model.levels.flatMap((level) => [level.learning && level.learning.model.length ? learningOf(model, level) : null,
    level.held_out ? parity(model, level) : null, level.held_out ? calibrationOf(model, level) : null]).filter(known);
  const worse = model.levels.filter((level) => level.rows.negative_transfer).map((level) => level.name);
  const parts = [el("h3", {}, model.source),
    el("dl", {}, ...model.facts.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)])),
    table([["level", "level", { left: true }], ["cost", "cost"], ["structures", "structures"], [`rms error, ${evs}`, "rmse", { digits: 4 }], ["mean |error|", "mae", { digits: 4 }],
      ["without DFTB", "rmse_without_base", { digits: 4 }], ["within 1\u03c3", (r) => fixed(100 * r.within_one_std, 0) + " %"], ["within 2\u03c3", (r) => fixed(100 * r.within_two_std, 0) + " %"],
      ["error bars times", "calibration", { digits: 2 }], ["DFTB hurts", (r) => yes(r.negative_transfer)]], model.levels.map((level) => level.rows), { label: `Held-out errors of ${model.source}` })];
  if (worse.length) parts.push(el("p", { class: "alert" }, el("strong", {}, "DFTB does not help. "), `For ${worse.join(", ")} a model without it is better on what was held out.`));
  parts.push(charts.length ? el("div", { class: "charts" }, ...charts) : el("p", { class: "quiet" }, "This file records no held-out structures: it was written by an earlier version."));
  for (const level of model.levels.filter((one) => one.held_out))
    parts.push(el("details", {}, el("summary", {}, `Held-out errors by group, ${level.name} (${level.held_out.groups.length})`),
      table([["group", "name", { left: true }], ["structures", "n"], [`rms error, ${evs}`, "rmse", { digits: 4 }], ["largest", "largest", { digits: 4 }], ["error bar", "bar", { digits: 4 }]], errorsByGroup(level), { label: `Groups, ${level.name}` })));
  return el("article", { "aria-label": `Delta model ${model.source}` }, ...parts);
}
function deltas() {
  const models = DATA.deltas || [];
  if (!models.length) return;
  const place = document.getElementById("deltas");
  place.append(...models.map(deltaModel), el("p", { class: "quiet" }, "Whole groups were held out in turn while the model was trained. Learning curves: every group predicted from few and from more of the others; inducing environments and hyperparameters are those of all data. Grey bars: where honest error bars may lie."));
  place.hidden = false;
  // Where nothing but models was given, a periodic table without a number would stand in the way.
  if (!DATA.elements.some((one) => one.ours) && !DATA.live) for (const id of ["periodic", "listing"]) document.getElementById(id).hidden = true;
}
