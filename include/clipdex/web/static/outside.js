// Airflow shows these pages in a frame that may not navigate its window. Links with the class "outside" lead to pages of
// Airflow: the window that holds the frame opens them, which has the same origin.
const holder = () => {
  try {
    return window.parent !== window && window.parent.location.origin === location.origin ? window.parent : null;
  } catch {
    return null;
  }
};

document.addEventListener("click", (event) => {
  const link = event.target instanceof Element && event.target.closest("a.outside");
  const outer = link && holder();
  if (!outer || event.button !== 0) return;
  event.preventDefault();
  const same = outer.document.createElement("a");
  same.href = link.href;
  if (event.ctrlKey || event.metaKey) same.target = "_blank";
  outer.document.body.append(same);
  same.click();
  same.remove();
});
