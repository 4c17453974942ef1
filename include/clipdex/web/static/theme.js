// Airflow keeps its colour mode in localStorage; these pages follow it, also when it is switched beside them.
const follow = () => {
  const mode = localStorage.getItem("theme");
  document.documentElement.dataset.theme = mode === "light" || mode === "dark" ? mode : "system";
};
follow();
addEventListener("storage", follow);
