// Keeps an open page up to date while its images are analysed: asks for the parts that changed since the last answer.

const FASTEST = 1000;
const SLOWEST = 4000;
// A hidden page shows only its title, and asks at once when it is looked at again.
const HIDDEN = 30000;
const AFTER_ERROR = 15000;

const region = document.querySelector("[data-live-page]");
let tag = region?.dataset.tag;
let pause = FASTEST;
let first = null;
let timer = null;

function say(text) {
  if (region.textContent !== text) region.textContent = text;
}

// Keeps the focus and open menus if the new part has the same controls.
function replace(name, html) {
  const part = document.querySelector(`[data-live="${name}"]`);
  if (!part) return;
  const controls = () => [...part.querySelectorAll("a, button, input, summary")];
  const focused = controls().indexOf(document.activeElement);
  const open = [...part.querySelectorAll("details")].map((details) => details.open);
  part.innerHTML = html;
  part.querySelectorAll("details").forEach((details, i) => { details.open = open[i] ?? details.open; });
  if (focused >= 0) controls()[focused]?.focus({ preventScroll: true });
}

function timeLeft(percent) {
  first ??= { percent, at: Date.now() };
  const gained = percent - first.percent;
  const seconds = (Date.now() - first.at) / 1000;
  if (gained < 3 || seconds < 2) return "";
  const left = (seconds / gained) * (100 - percent);
  if (left < 5) return "a few seconds left";
  return left < 90 ? `about ${Math.ceil(left / 5) * 5} s left` : `about ${Math.ceil(left / 60)} min left`;
}

function show(now) {
  for (const [name, html] of Object.entries(now.parts)) replace(name, html);
  document.title = `${now.title} · histopath`;
  say(now.status);
  const eta = document.querySelector("[data-eta]");
  if (eta && now.open) eta.textContent = timeLeft(now.percent);
  document.dispatchEvent(new CustomEvent("parts", { detail: Object.keys(now.parts) }));
}

async function poll() {
  timer = null;
  let open = true;
  try {
    const answer = await fetch(region.dataset.livePage, { headers: { Accept: "application/json", "If-None-Match": tag } });
    if (answer.redirected) return say("You are signed out. Reload the page to sign in.");
    if (answer.status === 404) return say("This item is no longer available.");
    if (answer.status === 304) pause = Math.min(1.5 * pause, SLOWEST);
    else if (answer.ok) {
      const now = await answer.json();
      tag = answer.headers.get("ETag");
      show(now);
      open = now.open;
      pause = FASTEST;
    } else pause = AFTER_ERROR;
  } catch {
    pause = AFTER_ERROR;
  }
  if (open) timer = setTimeout(poll, document.hidden ? Math.max(pause, HIDDEN) : pause);
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden || timer === null) return;
  clearTimeout(timer);
  poll();
});
if (region) timer = setTimeout(poll, FASTEST);
