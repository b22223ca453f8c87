// What every page does: status light, menus, offline notice.

const light = document.querySelector("[data-status]");

async function readStatus() {
  try {
    const answer = await fetch(light.dataset.status, { headers: { Accept: "application/json" } });
    if (!answer.ok || answer.redirected) throw new Error(String(answer.status));
    const status = await answer.json();
    light.dataset.state = status.state;
    light.title = status.text;
    light.querySelector("[data-status-text]").textContent = `Status: ${status.text}`;
    light.querySelector("[data-status-short]").textContent = status.short;
  } catch {
    light.dataset.state = "unknown";
  }
}

if (light) {
  readStatus();
  setInterval(() => document.hidden || readStatus(), 20000);
}

for (const menu of document.querySelectorAll("[data-menu]")) {
  document.addEventListener("click", (event) => menu.contains(event.target) || menu.removeAttribute("open"));
  menu.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && menu.open) {
      menu.removeAttribute("open");
      menu.querySelector("summary").focus();
    }
  });
}

const offline = document.querySelector("[data-offline]");
const showConnection = () => { if (offline) offline.hidden = navigator.onLine; };
addEventListener("online", showConnection);
addEventListener("offline", showConnection);
showConnection();

for (const field of document.querySelectorAll("[data-select]")) {
  field.focus();
  field.select();
}
