// Light or dark: as the system has it, or as the reader says, who is asked again after a reload.

export function startTheme() {
  const choice = document.getElementById("theme");
  choice.addEventListener("change", () => {
    document.documentElement.dataset.theme = choice.value;
  });
}
