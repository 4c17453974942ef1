// The calendar by mouse and keyboard, the form of a backfill, and the plots. Without this script, the form and the lists work.

const form = document.querySelector(".backfill");
const cells = [...document.querySelectorAll("button.cell")];
const byDay = new Map(cells.map((cell) => [cell.dataset.day, cell]));
const shift = (day, days) => new Date(Date.parse(`${day}T00:00:00Z`) + days * 86400000).toISOString().slice(0, 10);
const count = (first, last) => Math.round((Date.parse(last) - Date.parse(first)) / 86400000) + 1;
let anchor = "";

function choose(first, last) {
  const [from, to] = first <= last ? [first, last] : [last, first];
  form.elements.first.value = from;
  form.elements.last.value = to;
  show();
}

// Show the days of the form in the calendar, in the button, in the commands.
function show() {
  const first = form.elements.first.value;
  const last = form.elements.last.value || first;
  const valid = first && last >= first;
  for (const cell of cells) {
    const inside = valid && cell.dataset.day >= first && cell.dataset.day <= last;
    cell.parentElement.setAttribute("aria-selected", inside);
    cell.classList.toggle("picked", inside);
  }
  const label = document.querySelector("[data-count]");
  const days = valid ? count(first, last) : 0;
  if (label) label.textContent = days ? `${days} ${days === 1 ? "day" : "days"} in Airflow` : "";
  for (const code of document.querySelectorAll("[data-command]"))
    code.textContent = code.dataset.command.replace("FIRST", first || "FIRST").replace("LAST", last || "LAST");
  const one = days === 1 && byDay.get(first);
  const text = one ? one.getAttribute("aria-label") : days ? summary(first, last, days) : "";
  document.querySelector("[data-chosen]").textContent = text;
}

function summary(first, last, days) {
  const states = {};
  for (const cell of cells)
    if (cell.dataset.day >= first && cell.dataset.day <= last) {
      const state = cell.classList[1];
      states[state] = (states[state] || 0) + 1;
    }
  const words = { done: "done", partly: "with quarantine", failed: "failed", running: "running", empty: "without clips",
    gap: "gaps", outside: "not ingested" };
  const parts = Object.entries(states).map(([state, number]) => `${number} ${words[state]}`);
  return `${days} days, ${first} to ${last}: ${parts.join(", ")}`;
}

// One cell of the calendar is in the tab order; arrow keys move it.
function focusable(day, focus) {
  const cell = byDay.get(day);
  if (!cell) return false;
  for (const one of cells) one.tabIndex = -1;
  cell.tabIndex = 0;
  if (focus) cell.focus();
  return true;
}

const MOVES = { ArrowUp: -1, ArrowDown: 1, ArrowLeft: -7, ArrowRight: 7, PageUp: -28, PageDown: 28 };

for (const cell of cells) {
  cell.title = cell.getAttribute("aria-label");
  cell.addEventListener("click", (event) => {
    if (!event.shiftKey || !anchor) anchor = cell.dataset.day;
    focusable(cell.dataset.day, false);
    choose(anchor, cell.dataset.day);
  });
  cell.addEventListener("keydown", (event) => {
    const day = cell.dataset.day;
    const days = cells.map((one) => one.dataset.day).sort();
    const target = event.key === "Home" ? days[0] : event.key === "End" ? days.at(-1) : shift(day, MOVES[event.key] || 0);
    if (target === day || !focusable(target, true)) return;
    event.preventDefault();
    if (event.shiftKey) {
      anchor ||= day;
      choose(anchor, target);
    } else anchor = "";
  });
}

if (form) {
  form.addEventListener("input", show);
  if (form.getAttribute("action").startsWith("#")) form.addEventListener("submit", (event) => event.preventDefault());
  for (const link of document.querySelectorAll("a[data-first]"))
    link.addEventListener("click", (event) => {
      event.preventDefault();
      anchor = link.dataset.first;
      choose(link.dataset.first, link.dataset.last);
      const button = form.querySelector("button");
      (button || form.elements.first).focus();
    });
  focusable(form.elements.first.value, false) || (cells.length && focusable(cells.map((one) => one.dataset.day).sort().at(-1)));
  show();
}
for (const year of document.querySelectorAll(".year")) year.scrollLeft = year.scrollWidth;

// Plots. The colours are those of the page: a custom property is resolved by an element that uses it.
const plots = document.querySelector(".plots");

function colour(name) {
  const probe = document.createElement("span");
  probe.className = "probe";
  probe.style.color = `var(--${name})`;
  plots.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function draw() {
  const days = JSON.parse(plots.dataset.days);
  const [text, line] = [colour("muted"), colour("line")];
  const bars = { indexed: "done", quarantined: "partly", unfinished: "failed" };
  for (const canvas of plots.querySelectorAll("canvas")) {
    Chart.getChart(canvas)?.destroy();
    const bar = canvas.dataset.kind === "bar";
    const series = JSON.parse(canvas.dataset.series);
    const few = days.length < 40;
    const short = (day) => (days[0].slice(0, 4) === days.at(-1).slice(0, 4) ? day.slice(5) : day.slice(0, 7));
    const datasets = series.map((one, number) => {
      const own = colour(bar ? bars[one.label] : `series-${(number % 8) + 1}`);
      return { ...one, borderColor: own, backgroundColor: own, borderWidth: bar ? 0 : 1.75, spanGaps: true,
        pointRadius: few ? 2 : 0, pointHitRadius: 6, barPercentage: 1, categoryPercentage: few ? 0.8 : 1 };
    });
    new Chart(canvas, {
      type: canvas.dataset.kind,
      data: { labels: days, datasets },
      options: {
        animation: false,
        maintainAspectRatio: false,
        interaction: { mode: "index", intersect: false },
        plugins: {
          legend: { display: series.length > 1, position: "bottom", labels: { color: text, boxWidth: 10, boxHeight: 10, padding: 8 } },
          tooltip: { callbacks: { label: (item) =>
            `${item.dataset.label}: ${item.formattedValue}${item.dataset.label === canvas.dataset.unit ? "" : ` ${canvas.dataset.unit}`}` } },
        },
        scales: {
          x: { stacked: bar, ticks: { color: text, maxTicksLimit: 6, maxRotation: 0, autoSkipPadding: 12, callback: (_, index) => short(days[index]) }, grid: { display: false }, border: { color: line } },
          y: { stacked: bar, beginAtZero: true, ticks: { color: text, maxTicksLimit: 6 }, grid: { color: line }, border: { display: false } },
        },
      },
    });
  }
}

if (plots) {
  const start = () => {
    if (typeof Chart === "undefined") return;
    draw();
    new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  };
  if (document.readyState === "complete" || typeof Chart !== "undefined") start();
  else addEventListener("load", start);
}
