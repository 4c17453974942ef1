// Shows how far requeued clips are, until nothing will change any more.
import "./outside.js";

const section = document.getElementById("requeue");
const PAUSE_MS = 2000;
const MOST_PAUSE_MS = 30000;

const word = (state) => state.replaceAll(" ", "-");

const show = (view) => {
  const sum = `${view.done ? "Finished: " : ""}${view.through} of ${view.total} through`;
  const status = document.getElementById("sum");
  if (status.textContent !== sum) status.textContent = sum;
  document.getElementById("progress").value = view.through;
  document.getElementById("counts").replaceChildren(
    ...Object.entries(view.counts).map(([state, clips]) => {
      const item = document.createElement("li");
      const number = document.createElement("b");
      item.className = word(state);
      number.textContent = clips;
      item.append(number, ` ${state}`);
      return item;
    }),
  );
  for (const run of view.runs) {
    const item = document.querySelector(`#runs li[data-day="${CSS.escape(run.day)}"] .state`);
    if (item) item.textContent = run.state;
  }
  for (const clip of view.clips) {
    const row = document.querySelector(`#clips tr[data-clip="${CSS.escape(clip.clip_id)}"]`);
    const state = row?.querySelector(".outcome");
    if (!state) continue;
    state.textContent = clip.state;
    state.className = `outcome ${word(clip.state)}`;
    row.querySelector("strong").textContent = clip.reason.replaceAll("_", " ");
    row.querySelector(".detail").textContent = clip.detail;
  }
};

const follow = async (pause) => {
  let next = PAUSE_MS;
  try {
    const answer = await fetch(section.dataset.state, { headers: { Accept: "application/json" } });
    if (answer.status === 401 || answer.status === 404) return; // logged out, or past its retention
    if (!answer.ok) throw new Error(answer.status);
    const view = await answer.json();
    show(view);
    if (view.done) {
      section.dataset.done = "yes";
      return;
    }
  } catch {
    next = Math.min(2 * pause, MOST_PAUSE_MS);
  }
  setTimeout(() => follow(next), next);
};

if (section.dataset.done !== "yes") setTimeout(() => follow(PAUSE_MS), PAUSE_MS);
