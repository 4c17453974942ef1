// Selecting clips: one box for all of the page, and a count. Without this script the boxes and buttons work as well.
const every = document.getElementById("every");
const boxes = [...document.querySelectorAll('input[name="clip"]')];

if (every) {
  const buttons = document.querySelectorAll("#chosen button");
  const count = document.getElementById("count");
  const show = () => {
    const chosen = boxes.filter((box) => box.checked).length;
    count.textContent = chosen ? `${chosen} selected` : "All on this page";
    every.checked = chosen === boxes.length && chosen > 0;
    every.indeterminate = chosen > 0 && chosen < boxes.length;
    for (const button of buttons) button.disabled = chosen === 0;
    for (const box of boxes) box.closest(".case").classList.toggle("selected", box.checked);
  };
  every.addEventListener("change", () => {
    for (const box of boxes) box.checked = every.checked;
    show();
  });
  let last = null;
  for (const box of boxes) {
    box.addEventListener("click", (event) => {
      if (event.shiftKey && last) {
        const [from, to] = [boxes.indexOf(last), boxes.indexOf(box)].sort((a, b) => a - b);
        for (const one of boxes.slice(from, to + 1)) one.checked = box.checked;
      }
      last = box;
      show();
    });
  }
  addEventListener("pageshow", show); // a browser that goes back keeps the boxes
  show();
}
