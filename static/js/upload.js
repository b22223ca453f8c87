// Choosing images and sending them one by one, each with its own progress. The server opens the case
// first, so what has arrived stays even if the page is closed half way.

// Files of a folder that nobody means to send.
const LITTER = /^(\..*|thumbs\.db|desktop\.ini)$/i;
// Bytes of a file's start that tell what it is, and how many files left out are named.
const HEAD = 160;
const NAMED = 5;
const AT_ONCE = 3;
// How often one image is sent while the server is busy, and the longest pause in seconds it may ask for.
const MOST_TRIES = 6;
const SOON = 5;
const SIGNED_OUT = "you are signed out; sign in again in another window, then send once more from here";
const MB = 2 ** 20;
const size = (bytes) => bytes < MB ? `${Math.max(1, Math.round(bytes / 1024))} kB` : `${+(bytes / MB).toFixed(1)} MB`;

// Where a file lay in the folder that it came with, if in any; folders of one camera hold files of the same name and size.
const places = new WeakMap();
const place = (file) => places.get(file) ?? file.webkitRelativePath;
const isElsewhere = (one, other) => place(one) && place(other) && place(one) !== place(other);
const isSame = (one, other) => one.name === other.name && one.size === other.size && one.lastModified === other.lastModified && !isElsewhere(one, other);

for (const form of document.querySelectorAll("[data-upload]")) upload(form);

function upload(form) {
  const zone = form.querySelector("[data-dropzone]");
  const input = zone.querySelector("[data-input]");
  const list = zone.querySelector("[data-files]");
  const summary = zone.querySelector("[data-summary]");
  const send = form.querySelector("[data-send]");
  const bar = form.querySelector("[data-progress]");
  const maxBytes = Number(zone.dataset.maxBytes);
  const maxFiles = Number(zone.dataset.maxFiles);
  let entries = [];
  let busy = false;
  let leaving = false;
  const token = form.elements.csrfmiddlewaretoken;
  const onward = document.createElement("a");
  onward.className = "button primary";
  onward.textContent = "Go to the case";
  const empty = form.querySelector("[data-empty]");
  const single = "single" in form.dataset;

  const folder = document.createElement("input");
  folder.type = "file";
  folder.multiple = true;
  folder.hidden = true;
  folder.webkitdirectory = true;
  folder.dataset.folderInput = "";
  zone.append(folder);

  for (const part of zone.querySelectorAll("[data-only-script]")) part.hidden = false;
  input.classList.add("visually-hidden");
  input.tabIndex = -1;

  function problem(file) {
    if (!file.size) return "is empty (0 bytes)";
    if (file.size > maxBytes) return `is larger than ${size(maxBytes)}`;
    return "";
  }

  // The content decides what a file is, as on the server.
  const content = new RegExp(zone.dataset.content, "s");
  async function isImage(file) {
    const head = new Uint8Array(await file.slice(0, HEAD).arrayBuffer());
    return content.test(String.fromCharCode(...head));
  }

  async function addFolder(files) {
    const images = [];
    const others = [];
    for (const file of files) if (!LITTER.test(file.name)) (await isImage(file) ? images : others).push(file);
    add(images);
    if (!others.length) return;
    const names = others.slice(0, NAMED).map((file) => file.name).join(", ");
    const more = others.length > NAMED ? ", …" : "";
    summary.textContent += `${summary.textContent ? "; " : ""}${others.length} left out, not images: ${names}${more}`;
  }

  function add(files) {
    let rest = 0;
    let twice = 0;
    if (single && files.length) {
      // Here a new image takes the place of the last; of several the first that can be taken.
      for (const entry of entries) entry.item.remove();
      entries = [];
      rest = files.length - 1;
      files = [[...files].find((file) => !problem(file)) ?? files[0]];
    }
    for (const file of files) {
      if (entries.some((entry) => isSame(entry.file, file))) {
        twice += 1;
        continue;
      }
      const why = entries.length >= maxFiles ? `is one too many: ${maxFiles} at once` : problem(file);
      entries.push(draw({ file, state: why ? "bad" : "ready", why }));
    }
    show();
    if (twice) summary.textContent += `${summary.textContent ? "; " : ""}${twice} chosen before, left out`;
    if (rest) summary.textContent += `; one image at a time here, so ${rest} ${rest === 1 ? "was" : "were"} left out`;
  }

  function draw(entry) {
    const item = document.createElement("li");
    item.className = "file";
    const picture = document.createElement("img");
    picture.className = "file-thumb";
    picture.alt = "";
    const words = document.createElement("div");
    const name = document.createElement("div");
    name.className = "file-name";
    name.textContent = name.title = entry.file.name;
    const facts = document.createElement("div");
    facts.className = "file-facts num";
    words.append(name, facts);
    const remove = document.createElement("button");
    remove.type = "button";
    remove.className = "button quiet small icon-only";
    remove.setAttribute("aria-label", `Remove ${entry.file.name}`);
    remove.textContent = "×";
    remove.addEventListener("click", () => {
      entries = entries.filter((other) => other !== entry);
      item.remove();
      show();
    });
    item.append(picture, words, remove);
    list.append(item);
    Object.assign(entry, { item, facts, remove, picture });
    facts.textContent = size(entry.file.size);
    if (entry.state === "ready" && entry.file.size < 40e6) {
      picture.src = URL.createObjectURL(entry.file);
      picture.addEventListener("load", () => {
        if (entry.state === "ready") facts.textContent = `${size(entry.file.size)} · ${picture.naturalWidth} × ${picture.naturalHeight}`;
        URL.revokeObjectURL(picture.src);
      });
      // A browser that can't show a TIFF says nothing about the file; the server looks inside.
      picture.addEventListener("error", () => picture.removeAttribute("src"));
    }
    if (entry.why) mark(entry, "bad", entry.why);
    return entry;
  }

  function mark(entry, state, text) {
    entry.state = state;
    entry.item.classList.toggle("bad-file", state === "bad");
    entry.item.classList.toggle("sent", state === "sent");
    entry.remove.hidden = state === "sent";
    if (text) entry.facts.textContent = text;
  }

  const arrived = () => entries.filter((entry) => entry.state === "sent").length;

  function show() {
    const ready = entries.filter((entry) => entry.state === "ready");
    const bad = entries.filter((entry) => entry.state === "bad").length;
    const sent = arrived();
    const parts = [];
    if (sent) parts.push(`${sent} image${sent === 1 ? "" : "s"} arrived`);
    if (ready.length) parts.push(`${ready.length} image${ready.length === 1 ? "" : "s"} to send, ${size(ready.reduce((sum, entry) => sum + entry.file.size, 0))}`);
    if (bad) parts.push(`${bad} can’t be taken`);
    summary.textContent = parts.join("; ");
    send.disabled = busy || !ready.length;
    send.hidden = onward.isConnected && !ready.length;
    if (empty) empty.hidden = busy || entries.length > 0;
  }

  // The page as it is now holds the token of whoever is signed in now, also after signing in again in another window.
  async function renewToken() {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    const page = new DOMParser().parseFromString(answer.redirected ? "" : await answer.text(), "text/html");
    const found = page.querySelector("[data-upload] [name=csrfmiddlewaretoken]");
    if (found) token.value = found.value;
    return Boolean(found);
  }

  async function post(address, body, onprogress) {
    const answer = await postOnce(address, body, onprogress);
    if (![401, 403].includes(answer.status) || !await renewToken()) return answer;
    return postOnce(address, body, onprogress);
  }

  function postOnce(address, body, onprogress) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open("POST", address);
      request.setRequestHeader("Accept", "application/json");
      request.setRequestHeader("X-CSRFToken", token.value);
      if (onprogress) request.upload.addEventListener("progress", (event) => event.lengthComputable && onprogress(event.loaded / event.total));
      request.addEventListener("load", () => {
        let data = null;
        try { data = JSON.parse(request.responseText); } catch { /* an error page */ }
        resolve({ status: request.status, data, after: Number(request.getResponseHeader("Retry-After")) });
      });
      request.addEventListener("error", () => reject(new Error("the connection broke")));
      request.send(body);
    });
  }

  async function sendOne(entry, address) {
    const bar = document.createElement("progress");
    bar.max = 1;
    bar.value = 0;
    bar.setAttribute("aria-label", `Upload of ${entry.file.name}`);
    entry.item.append(bar);
    const body = new FormData();
    body.append("images", entry.file, entry.file.name);
    if (form.elements.all_pages?.checked) body.append("all_pages", "on");
    try {
      let answer;
      for (let tries = 0; tries < MOST_TRIES; tries += 1) {
        answer = await post(address, body, (share) => { bar.value = share; });
        // A full queue asks for a longer pause, and is for a person to decide.
        if (answer.status !== 429 || answer.after > SOON || tries + 1 === MOST_TRIES) break;
        entry.facts.textContent = "waits until other images have been read";
        await new Promise((resume) => { setTimeout(resume, 1000 * (answer.after || SOON)); });
      }
      if (answer.data?.slides?.length) {
        entry.url = answer.data.slides[0].url;
        mark(entry, "sent", "arrived");
      }
      else if ([401, 403].includes(answer.status)) {
        mark(entry, "ready", `not sent: ${SIGNED_OUT}`);
        bar.remove();
        return "signed out";
      }
      else if (answer.status === 429 || answer.status >= 500) mark(entry, "ready", answer.data?.errors?.[0]?.reason || `not taken at the moment (${answer.status})`);
      else mark(entry, "bad", answer.data?.errors?.[0]?.reason || `was refused (${answer.status})`);
    } catch (error) {
      // It may arrive at the next try.
      mark(entry, "ready", `did not arrive: ${error.message}`);
    }
    bar.remove();
    return entry.state;
  }

  async function openCase() {
    if (form.dataset.uploadTo) return { add_slides: form.dataset.uploadTo, url: form.dataset.caseUrl || location.pathname };
    const body = new FormData(form);
    body.delete("images");
    // In the body it would outdo the header, and may be that of an earlier session.
    body.delete("csrfmiddlewaretoken");
    if (!body.get("title")) body.set("title", entries.find((entry) => entry.state === "ready").file.name.replace(/\.[^.]+$/, ""));
    const answer = await post(form.action || location.href, body);
    if (answer.status === 201) return answer.data;
    if (answer.status === 400 && answer.data?.errors) {
      for (const [field, errors] of Object.entries(answer.data.errors)) {
        const control = form.elements[field];
        if (control?.setCustomValidity) {
          control.setCustomValidity(errors[0].message);
          control.reportValidity();
          control.addEventListener("input", () => control.setCustomValidity(""), { once: true });
        }
      }
      return null;
    }
    throw new Error([401, 403].includes(answer.status) ? `Not sent: ${SIGNED_OUT}.` : `The server answered ${answer.status}.`);
  }

  form.addEventListener("submit", async (event) => {
    const ready = entries.filter((entry) => entry.state === "ready");
    if (!ready.length) {
      // Without images a new case is an ordinary form.
      if (event.submitter === empty && !entries.length) return;
      event.preventDefault();
      return;
    }
    event.preventDefault();
    if (busy) return;
    busy = true;
    show();
    bar.hidden = false;
    const line = bar.querySelector("progress");
    const text = bar.querySelector("[data-progress-text]");
    try {
      const opened = await openCase();
      if (!opened) return;
      if (!form.dataset.uploadTo) {
        // What is written there from now on would not be sent any more; the case's own page changes it.
        for (const control of form.elements) if (!["file", "hidden", "submit", "button"].includes(control.type)) {
          // Not to be found disabled when the page is loaded again.
          control.autocomplete = "off";
          control.disabled = true;
        }
      }
      form.dataset.uploadTo = opened.add_slides;
      form.dataset.caseUrl = opened.url;
      let done = 0;
      const waiting = [...ready];
      const step = async () => {
        for (let entry = waiting.shift(); entry; entry = waiting.shift()) {
          // Whoever is signed out need not send the others in vain.
          if (await sendOne(entry, opened.add_slides) === "signed out") waiting.length = 0;
          done += 1;
          line.value = (100 * done) / ready.length;
          text.textContent = `${done} of ${ready.length} sent`;
        }
      };
      await Promise.all(Array.from({ length: Math.min(AT_ONCE, ready.length) }, step));
      const left = entries.filter((entry) => entry.state === "ready").length;
      const refused = entries.filter((entry) => entry.state === "bad");
      if (!left && !refused.length) {
        leaving = true;
        return location.assign(single && ready[0].url || opened.url);
      }
      text.textContent = `${arrived()} of ${entries.length} images arrived${left ? " and stay. Send once more for the others" : ""}; the reasons stand beside them.`;
      onward.href = opened.url;
      send.after(onward);
      show();
      if (!left) onward.focus();
    } catch (error) {
      text.textContent = error.message;
    } finally {
      busy = false;
      show();
    }
  });

  input.addEventListener("change", () => { add(input.files); input.value = ""; });
  folder.addEventListener("change", () => { addFolder([...folder.files]); folder.value = ""; });
  zone.querySelector('[data-pick="files"]').addEventListener("click", () => input.click());
  zone.querySelector('[data-pick="folder"]')?.addEventListener("click", () => folder.click());

  let depth = 0;
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => { if (carriesFiles(event)) { depth += 1; zone.classList.add("over"); } });
  addEventListener("dragleave", (event) => { if (carriesFiles(event)) { depth -= 1; if (depth <= 0) { depth = 0; zone.classList.remove("over"); } } });
  addEventListener("dragover", (event) => { if (carriesFiles(event)) event.preventDefault(); });
  addEventListener("drop", async (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    depth = 0;
    zone.classList.remove("over");
    zone.closest("details")?.setAttribute("open", "");
    const items = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    if (items.some((item) => item.isDirectory)) addFolder(await walk(items));
    else add(event.dataTransfer.files);
  });
  addEventListener("beforeunload", (event) => { if (!leaving && (busy || entries.some((entry) => entry.state === "ready"))) event.preventDefault(); });
  show();
}

// All files below the dropped entries.
async function walk(items) {
  const files = [];
  for (const item of items) {
    if (item.isFile) {
      const file = await new Promise((resolve, reject) => item.file(resolve, reject));
      const path = item.fullPath.replace(/^\//, "");
      if (path.includes("/")) places.set(file, path);
      files.push(file);
    } else {
      const reader = item.createReader();
      for (;;) {
        const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
        if (!part.length) break;
        files.push(...await walk(part));
      }
    }
  }
  return files;
}
