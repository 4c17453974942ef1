import { Player, copyOnClick, isTaken, onKey } from "./player.js";

const root = document.querySelector(".player");
const player = root && new Player(root);
copyOnClick();
addEventListener("keydown", (event) => {
  if (onKey(player, event) || isTaken(event)) return;
  if (event.key === "/") {
    event.preventDefault();
    document.querySelector("#search .words").focus();
  }
});
