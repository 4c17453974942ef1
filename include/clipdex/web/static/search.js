// The search page: hits play beside the list, by click and by key; filters send themselves.

import { Player, copyOnClick, isTaken, onKey } from "./player.js";

const WIDE = matchMedia("(min-width: 64rem)");
const stage = document.querySelector(".stage");
const words = document.querySelector("#search .words");
let player = null;
let current = null;
let opening = 0;

const hits = () => [...document.querySelectorAll(".hit")].filter((hit) => !hit.closest("details:not([open])"));

const open = async (hit, { play = true, focus = true } = {}) => {
  const turn = ++opening;
  player?.close();
  player = null;
  current?.classList.remove("current");
  current = hit;
  hit.classList.add("current");
  hit.scrollIntoView({ block: "nearest" });
  const link = hit.querySelector(".open");
  if (focus) link.focus({ preventScroll: true });
  stage.querySelector("h2").textContent = hit.dataset.name;
  stage.querySelector(".whole").href = link.href;
  const body = stage.querySelector(".body");
  body.replaceChildren();
  if (!stage.open) {
    if (WIDE.matches) stage.show();
    else stage.showModal();
    if (WIDE.matches && focus) link.focus({ preventScroll: true });
  }
  document.documentElement.classList.add("staged");
  history.replaceState(null, "", `#${encodeURIComponent(hit.dataset.clip)}`);
  const found = await fetched(hit);
  if (turn !== opening) return; // another hit was opened meanwhile
  body.replaceChildren(...found);
  const root = body.querySelector(".player");
  if (!root) return;
  player = new Player(root);
  body.querySelector(".script .found")?.scrollIntoView({ block: "nearest" });
  if (play) await player.play();
};

// The player of a hit, made by the server, which escapes what comes from outside.
const fetched = async (hit) => {
  const asked = new URLSearchParams({ q: new URLSearchParams(location.search).get("q") ?? "" });
  for (const span of hit.dataset.spans.split(" ").filter(Boolean)) asked.append("hit", span);
  try {
    const response = await fetch(`${hit.dataset.player}?${asked}`, { credentials: "same-origin" });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    if (response.ok) return [...page.body.childNodes];
    return [message(page.querySelector(".notice p")?.textContent ?? `The server answered ${response.status}: reload the page.`)];
  } catch {
    return [message("The server does not answer. Try again in a moment.")];
  }
};

const message = (text) => Object.assign(document.createElement("p"), { className: "failed", role: "alert", textContent: text });

const close = () => {
  if (!stage?.open) return;
  opening++;
  player?.close();
  player = null;
  stage.close();
  document.documentElement.classList.remove("staged");
  history.replaceState(null, "", location.pathname + location.search);
  current?.querySelector(".open").focus();
  current?.classList.remove("current");
};

const step = (by) => {
  const all = hits();
  const next = current && all.includes(current) ? all.indexOf(current) + by : by > 0 ? 0 : all.length - 1;
  if (all[next]) open(all[next], { focus: !stage.matches(":modal") });
};

if (stage) {
  document.addEventListener("click", (event) => {
    const hit = event.target.closest(".hit");
    const plain = event.button === 0 && !(event.ctrlKey || event.metaKey || event.shiftKey);
    if (!hit || !plain || event.target.closest("a:not(.open, .poster), button, summary")) return;
    if (!event.target.closest("a") && !getSelection().isCollapsed) return;
    event.preventDefault();
    open(hit);
  });
  stage.addEventListener("cancel", (event) => {
    event.preventDefault();
    close();
  });
  stage.querySelector(".close").addEventListener("click", close);
  for (const button of stage.querySelectorAll(".step")) button.addEventListener("click", () => step(Number(button.dataset.step)));
  WIDE.addEventListener("change", close);
  const named = hits().find((hit) => encodeURIComponent(hit.dataset.clip) === location.hash.slice(1));
  if (named) open(named, { play: false, focus: false });
}

addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    const menu = document.querySelector(".menu[open]");
    if (menu) {
      menu.open = false;
      menu.querySelector("summary").focus();
    } else if (document.activeElement === words) words.blur();
    else close();
    return;
  }
  if (onKey(player, event) || isTaken(event)) return;
  if (event.key === "j" || event.key === "k") step(event.key === "j" ? 1 : -1);
  else if (event.key === "/") {
    if (stage?.matches(":modal")) close();
    words.focus();
    words.select();
  } else return;
  event.preventDefault();
});

// Filters: one menu is open at a time; one that was changed sends the form when it closes.

const menus = [...document.querySelectorAll(".menu")];
const state = (menu) => [...menu.querySelectorAll("input")].map((one) => (one.type === "checkbox" ? one.checked : one.value)).join("\n");
const sent = new Map(menus.map((menu) => [menu, state(menu)]));
const form = document.querySelector("#narrow") ?? document.querySelector("#search");

for (const menu of menus) {
  menu.addEventListener("toggle", () => {
    if (menu.open) menus.filter((one) => one !== menu).forEach((one) => (one.open = false));
    else if (state(menu) !== sent.get(menu)) form.requestSubmit();
  });
}
addEventListener("click", (event) => {
  for (const menu of menus) if (menu.open && !menu.contains(event.target)) menu.open = false;
});
document.querySelector(".switch input")?.addEventListener("change", () => form.requestSubmit());
form?.addEventListener("formdata", (event) => {
  for (const [name, value] of [...event.formData]) if (value === "" && name !== "q") removeEmpty(event.formData, name);
});
const removeEmpty = (data, name) => {
  const kept = data.getAll(name).filter((value) => value !== "");
  data.delete(name);
  kept.forEach((value) => data.append(name, value));
};

copyOnClick();
