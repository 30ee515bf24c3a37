// Links to places of the page. In a notebook's frame, which has no address of its own, the browser takes them for links
// to the notebook and leaves the page; there they are followed here.

export function startLinks() {
  if (location.protocol !== "about:") return;
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (link === null) return;
    event.preventDefault();
    document.getElementById(link.getAttribute("href").slice(1))?.scrollIntoView();
  });
}
