// Follows a case while workers are busy: a stream of events, or polling where the server has none to spare.

const page = document.querySelector("[data-live-page]");

let states = new Map();
let first = null;
let wait = 1000;

for (const item of document.querySelectorAll("[data-slide]")) states.set(item.dataset.slide, item.dataset.state);

function timeLeft(percent) {
  if (first === null) first = { percent, at: Date.now() };
  const gained = percent - first.percent;
  const seconds = (Date.now() - first.at) / 1000;
  if (gained < 3 || seconds < 2) return "";
  const left = (seconds / gained) * (100 - percent);
  if (left < 5) return "a few seconds left";
  return left < 90 ? `about ${Math.ceil(left / 5) * 5} s left` : `about ${Math.ceil(left / 60)} min left`;
}

function note(progress) {
  if (!progress.worker_alive) return "No worker is running, so nothing moves at the moment. The images are safe and wait in the queue.";
  if (progress.ahead) return `${progress.ahead} other image${progress.ahead === 1 ? "" : "s"} in the queue before this case.`;
  return "This page follows by itself; you can leave it and come back.";
}

// Takes the finished parts from a fresh copy of the page, so that nothing is drawn twice in two languages.
async function redraw() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  // Signed out, or the case is gone: asking again would change nothing.
  if (answer.redirected || !answer.ok) return answer.status < 500 && answer.status !== 429;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const old of document.querySelectorAll("[data-live]")) {
    const part = fresh.querySelector(`[data-live="${old.dataset.live}"]`);
    if (!part) continue;
    const layout = old.querySelector("[data-slides]")?.className;
    old.replaceWith(document.importNode(part, true));
    if (layout) document.querySelector("[data-slides]")?.setAttribute("class", layout);
  }
  return true;
}

async function apply(progress) {
  if (page.dataset.only) {
    const mine = progress.slides.find((slide) => slide.id === page.dataset.only);
    if (mine && !["queued", "running"].includes(mine.state)) return location.reload();
    const bar = document.querySelector("[data-slide-bar]");
    if (bar && mine) bar.value = mine.percent;
    document.querySelector("[data-case-note]").textContent = mine?.state === "running"
      ? `${mine.patches_done} of ${mine.patches_total} patches. The result appears here by itself.` : note(progress);
    return;
  }
  const changed = progress.slides.some((slide) => states.get(slide.id) !== slide.state);
  if (changed && !await redraw().catch(() => false)) {
    // Not remembered, so that the next news try again; the last ones are followed by none.
    if (!progress.open) setTimeout(() => apply(progress), 5000);
  } else states = new Map(progress.slides.map((slide) => [slide.id, slide.state]));
  for (const slide of progress.slides) {
    const item = document.querySelector(`[data-slide="${slide.id}"]`);
    const bar = item?.querySelector("[data-slide-bar]");
    if (bar) bar.value = slide.percent;
    const count = item?.querySelector("[data-slide-count]");
    if (count && slide.patches_total) count.textContent = `${slide.patches_done} / ${slide.patches_total}`;
  }
  const bar = document.querySelector("[data-case-bar]");
  if (bar) {
    bar.value = progress.percent;
    document.querySelector("[data-eta]").textContent = timeLeft(progress.percent);
    document.querySelector("[data-case-note]").textContent = note(progress);
  }
}

async function poll() {
  let open = 1;
  try {
    const answer = await fetch(page.dataset.progressUrl, { headers: { Accept: "application/json" } });
    if (answer.redirected || answer.status === 403 || answer.status === 404) return location.reload();
    const progress = await answer.json();
    open = progress.open;
    await apply(progress);
    wait = 1000;
  } catch {
    wait = Math.min(wait * 2, 15000);
  }
  if (open) setTimeout(poll, document.hidden ? 5000 : wait);
}

// Read with fetch, not EventSource: a refusal (204) is then an answer like any other, not an error.
async function stream() {
  let open = 1;
  try {
    const answer = await fetch(`${page.dataset.progressUrl}stream/`);
    if (answer.status !== 200 || answer.redirected) return poll();
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const parts = (text + value).split("\n\n");
      text = parts.pop();
      for (const part of parts.filter((line) => line.startsWith("data: "))) {
        const progress = JSON.parse(part.slice(6));
        open = progress.open;
        await apply(progress);
      }
    }
  } catch {
    return setTimeout(poll, 2000);
  }
  if (open) stream();
}

if (page && Number(page.dataset.open)) stream();

const layout = document.querySelector("[data-layout]");
if (layout) {
  const set = (name) => {
    document.querySelector("[data-slides]")?.classList.toggle("as-list", name === "list");
    for (const button of layout.querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.dataset.layoutTo === name));
    localStorage.setItem("slides-layout", name);
  };
  layout.hidden = false;
  layout.addEventListener("click", (event) => {
    const button = event.target.closest("[data-layout-to]");
    if (button) set(button.dataset.layoutTo);
  });
  set(localStorage.getItem("slides-layout") === "list" ? "list" : "grid");
}
