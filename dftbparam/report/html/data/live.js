// While a campaign runs: how its runs stand, and newer numbers, asked for now and then. Everything comes from the server
// that sent the page, nothing is sent to it but the question.

const live = { tag: "", timer: 0, shown: "", said: "", lost: false, paused: false, at: new Date() };
const MARKS = { running: "\u25b6", failed: "\u2715", interrupted: "\u2016", waiting: "\u2026" };

function span(seconds) {
  if (!known(seconds)) return "\u2013";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${fixed(seconds / 3600, 1)} h` : `${fixed(seconds / 86400, 1)} days`;
}
const runOf = (symbol) => DATA.live.runs.find((run) => run.name === symbol);

function livePanel() {
  const place = document.getElementById("live"), { runs, totals, elements, not_begun: waiting, trouble } = DATA.live;
  // Of those that have nothing to tell yet the name is enough.
  const still = runs.filter((run) => run.state === "waiting" && !run.done && !run.message), begun = runs.filter((run) => !still.includes(run));
  const all = elements || runs.length, counts = Object.entries(totals.elements).map(([state, n]) => `${n} ${state}`);
  if (waiting) counts.push(`${waiting} not begun`);
  const done = totals.elements.finished || 0;
  const opened = place.querySelector("details") ? place.querySelector("details").open : true;
  const rate = known(totals.per_minute) ? `, ${general(totals.per_minute, 3)} a minute; those that run need ${span(totals.seconds_left)} more` : "";
  const scrolled = place.querySelector(".scroll") ? place.querySelector(".scroll").scrollLeft : 0;
  const focus = document.activeElement && place.contains(document.activeElement) ? document.activeElement.id : "";
  place.replaceChildren(el("section", { "aria-labelledby": "live-head" },
    el("h2", { id: "live-head" }, runs.some((run) => run.state === "running") ? "Running" : "Nothing runs now"),
    live.lost ? el("p", { class: "alert" }, el("strong", {}, "The server does not answer. "), "The numbers are those of ", el("time", {}, live.at.toLocaleTimeString()), "; it is asked again.") : null,
    trouble ? el("p", { class: "alert" }, el("strong", {}, "The store could not be read again. "), trouble) : null,
    el("p", {}, `${counts.join(", ")}; ${totals.done} trials, ${totals.failed} of them failed${rate}.`),
    el("progress", { max: all || 1, value: done, "aria-label": `${done} of ${all} elements finished` }),
    el("p", { class: "quiet" }, el("label", {}, el("input", { type: "checkbox", id: "live-on", checked: !live.paused, onchange: (event) => { live.paused = !event.target.checked; ask(); } }), ` ask again every ${general(DATA.live.seconds)} s`),
      ` \u00b7 as of ${live.at.toLocaleTimeString()}`,
      ...(DATA.live.dashboard ? [" \u00b7 ", el("a", { href: DATA.live.dashboard, id: "live-dask", target: "_blank", rel: "noopener noreferrer" }, "Dask's dashboard")] : [])),
    runs.length ? el("details", { open: opened }, el("summary", {}, "How the elements stand"), begun.length ? runTable(begun) : null,
      still.length ? el("p", { class: "quiet" }, `Waiting: ${still.map((run) => run.name).join(", ")}.`) : null) : null));
  if (place.querySelector(".scroll")) place.querySelector(".scroll").scrollLeft = scrolled;
  if (focus) document.getElementById(focus)?.focus();
}
function runTable(runs) {
  const link = (run) => el("a", { href: `#${run.name}`, id: `live-${run.name}`, onclick: (event) => { event.preventDefault(); openElement(run.name); } }, run.name);
  const trials = (run) => el("span", {}, known(run.evaluations) ? el("progress", { max: run.evaluations, value: run.done, "aria-hidden": "true" }) : null, ` ${run.done}${known(run.evaluations) ? ` of ${run.evaluations}` : ""}`);
  const made = table([["element", link, { left: true }], ["state", (run) => `${MARKS[run.state] || "\u2713"} ${run.state}`, { left: true }], ["trials", trials, { left: true }], ["failed", "failed"], ["best objective", (run) => general(run.best_objective)],
    ["s a trial", (run) => general(run.trial_seconds, 3)], ["a minute", (run) => general(run.per_minute, 3)], ["left", (run) => span(run.seconds_left)], ["", "message", { left: true, wrap: true }]], runs, { label: "How the elements stand" });
  made.classList.add("tall");
  return made;
}
// Only changes of state are spoken, not numbers that change all the time.
function announce() {
  const states = DATA.live.runs.map((run) => `${run.name} ${run.state}`).sort();
  const before = new Set(live.said.split(";")), news = states.filter((one) => !before.has(one));
  if (live.said && news.length) document.getElementById("live-news").textContent = news.join(", ");
  live.said = states.join(";");
}

async function ask() {
  clearTimeout(live.timer);
  if (live.paused) return;
  try {
    const answer = await fetch("live.json", { cache: "no-store", headers: live.tag ? { "If-None-Match": live.tag } : {} });
    if (answer.status !== 304) {
      if (!answer.ok) throw new Error(String(answer.status));
      renew(await answer.json());
      live.tag = answer.headers.get("ETag") || "";
    }
    live.lost = false;
    live.at = new Date();
  } catch (error) {
    live.lost = true;
  }
  livePanel();
  live.timer = setTimeout(ask, 1000 * DATA.live.seconds);
}
function renew(newer) {
  const chosen = DATA.figures[state.figure] && DATA.figures[state.figure].key;
  Object.assign(DATA, newer);
  state.figure = Math.max(0, DATA.figures.findIndex((figure) => figure.key === chosen));
  choices();
  remarks();
  headlines();
  summary();
  paint();
  announce();
  const one = dialog.open ? DATA.elements.find((e) => e.symbol === location.hash.slice(1)) : null;
  if (one && versionOf(one) !== live.shown) openLive(one, true);
}
const versionOf = (one) => (one.ours ? DATA.live.versions[one.symbol] : one.reason) || "";

// The details of an element are fetched when it is opened, and again when they have changed while it is open.
async function openLive(one, again) {
  live.shown = versionOf(one);
  if (one.ours && !again) showElement(one, el("p", { class: "quiet" }, "\u2026"));
  try {
    if (one.ours) {
      const answer = await fetch(`element/${one.symbol}.json`, { cache: "no-cache" });
      if (!answer.ok) throw new Error(String(answer.status));
      one.detail = await answer.json();
    }
  } catch (error) {
    if (!again) showElement(one, el("p", { class: "alert" }, "The server does not answer."));
    return;
  }
  if (again ? dialog.open && location.hash.slice(1) === one.symbol : location.hash.slice(1) === one.symbol) showElement(one, null, true);
}
function startLive() {
  document.body.append(el("p", { id: "live-news", class: "unseen", role: "status" }));
  livePanel();
  announce();
  live.timer = setTimeout(ask, 1000 * DATA.live.seconds);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); else clearTimeout(live.timer); });
}
