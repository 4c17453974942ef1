// The player: its own controls over a video, marks of the hits on the seek bar, and the caption that follows it.

const clock = (seconds) => {
  const whole = Math.max(0, Math.floor(seconds));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, String(whole % 60).padStart(2, "0")];
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
};

const SPEEDS = [1, 1.5, 2, 0.5];

export class Player {
  constructor(root) {
    this.root = root;
    this.video = root.querySelector("video");
    this.paragraphs = [...root.querySelectorAll(".script p[data-start]")];
    if (!this.video) return;
    this.at = Number(root.dataset.at) || 0;
    this.range = root.querySelector("input[type=range]");
    this.time = root.querySelector(".time");
    this.marks = root.querySelector(".marks");
    this.video.controls = false;
    root.querySelector(".controls").hidden = false;
    this.#listen();
    this.seek(this.at);
    this.#show();
  }

  get duration() {
    return Number.isFinite(this.video.duration) ? this.video.duration : Number(this.range.max);
  }

  play() {
    return this.video?.play().catch(() => {}); // the browser may want a click first
  }

  toggle() {
    if (!this.video) return;
    if (this.video.paused) this.play();
    else this.video.pause();
  }

  seek(seconds) {
    if (!this.video) return;
    this.at = Math.min(Math.max(0, seconds), this.duration);
    if (this.video.readyState > 0) this.video.currentTime = this.at;
    else this.video.addEventListener("loadedmetadata", () => (this.video.currentTime = this.at), { once: true });
    this.#show();
  }

  step(seconds) {
    this.seek(this.video ? this.video.currentTime + seconds : 0);
  }

  close() {
    if (!this.video) return;
    this.video.pause();
    this.video.removeAttribute("src"); // ends the download
    this.video.load();
  }

  #listen() {
    const { root, video } = this;
    for (const event of ["play", "pause", "ended"]) video.addEventListener(event, () => this.#show());
    video.addEventListener("timeupdate", () => this.#show());
    video.addEventListener("volumechange", () => this.#show());
    video.addEventListener("click", () => this.toggle());
    video.addEventListener("error", () => root.classList.add("broken"));
    video.addEventListener("loadedmetadata", () => {
      this.range.max = this.duration;
      const [x, y, , height] = this.marks.getAttribute("viewBox").split(" ");
      this.marks.setAttribute("viewBox", [x, y, this.duration || 1, height].join(" "));
      this.#show();
    });
    this.range.addEventListener("input", () => this.seek(Number(this.range.value)));
    root.querySelector(".toggle").addEventListener("click", () => this.toggle());
    root.querySelector(".sound").addEventListener("click", () => (video.muted = !video.muted));
    root.querySelector(".full").addEventListener("click", () =>
      document.fullscreenElement ? document.exitFullscreen() : root.querySelector(".screen").requestFullscreen(),
    );
    root.querySelector(".speed").addEventListener("click", (event) => {
      video.playbackRate = SPEEDS[(SPEEDS.indexOf(video.playbackRate) + 1) % SPEEDS.length];
      event.currentTarget.textContent = `${video.playbackRate}×`;
    });
    for (const paragraph of this.paragraphs) {
      paragraph.addEventListener("click", () => {
        if (!getSelection().isCollapsed) return; // somebody selects the text
        this.seek(Number(paragraph.dataset.start));
        this.play();
      });
    }
  }

  #show() {
    const { root, video } = this;
    const now = video.readyState > 0 && !video.seeking ? video.currentTime : this.at;
    root.dataset.playing = String(!video.paused && !video.ended);
    root.dataset.muted = String(video.muted);
    root.querySelector(".toggle").ariaLabel = video.paused ? "Play" : "Pause";
    root.querySelector(".sound").ariaLabel = video.muted ? "Unmute" : "Mute";
    this.range.value = now;
    this.range.setAttribute("aria-valuetext", `${clock(now)} of ${clock(this.duration)}`);
    this.time.textContent = `${clock(now)} / ${clock(this.duration)}`;
    this.marks.querySelector(".played").setAttribute("width", now);
    for (const one of this.paragraphs) {
      one.classList.toggle("now", Number(one.dataset.start) <= now && now < Number(one.dataset.end));
    }
  }
}

// Whether a key belongs to what has the focus: a text field, a button that space presses, a range that arrows move.
export const isTaken = (event) => {
  const { target, key } = event;
  if (event.ctrlKey || event.metaKey || event.altKey) return true;
  if (target.closest("input:not([type=range]):not([type=checkbox]), textarea, select, [contenteditable]")) return true;
  if (key === " ") return Boolean(target.closest("button, summary, a, input"));
  return key.startsWith("Arrow") && Boolean(target.closest("input"));
};

// Keys of every player. Return whether one was meant.
export const onKey = (player, event) => {
  if (!player?.video || isTaken(event)) return false;
  if (event.key === " ") player.toggle();
  else if (event.key === "ArrowLeft") player.step(-1);
  else if (event.key === "ArrowRight") player.step(1);
  else return false;
  event.preventDefault();
  return true;
};

// Copy what a button names, and say so on it.
export const copyOnClick = () => {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button.copy");
    if (!button) return;
    const link = button.dataset.copyLink;
    const copied = await copy(link === undefined ? button.dataset.copy : new URL(link, location.href).href);
    button.dataset.copied = copied ? "Copied" : "Not copied";
    setTimeout(() => delete button.dataset.copied, 1500);
  });
};

const copy = async (text) => {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {} // not allowed: the older way
  }
  const field = Object.assign(document.createElement("textarea"), { value: text, readOnly: true, className: "unseen" });
  (document.querySelector("dialog[open]") ?? document.body).append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  return copied;
};
