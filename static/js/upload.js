// Uploads images one by one, each with its own progress bar. The case is created first, so images that were uploaded
// are kept even if the page is closed.

// Files of a folder that nobody means to send.
const LITTER = /^(\..*|thumbs\.db|desktop\.ini)$/i;
// Bytes of a file's start that tell what it is, and how many files left out are named.
const HEAD = 160;
const NAMED = 5;
const AT_ONCE = 3;
// Attempts per image while the server is busy, and the longest Retry-After in seconds that is waited for.
const MOST_TRIES = 6;
const SOON = 5;
const SIGNED_OUT = "you are signed out. Sign in in another tab, then retry";
const MB = 2 ** 20;
const size = (bytes) => bytes < MB ? `${Math.max(1, Math.round(bytes / 1024))} kB` : `${+(bytes / MB).toFixed(1)} MB`;

// Path of a file within a chosen folder: a camera's folders contain files of the same name and size.
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
    await add(images);
    if (!others.length) return;
    const names = others.slice(0, NAMED).map((file) => file.name).join(", ");
    const more = others.length > NAMED ? ", …" : "";
    summary.textContent += `${summary.textContent ? "; " : ""}${others.length} left out, not images: ${names}${more}`;
  }

  async function add(chosen) {
    let files = [...chosen];  // the browser empties its list once the field is reset
    let rest = 0;
    let twice = 0;
    if (single && files.length) {
      // A new image replaces the previous one; of several files, the first acceptable image is used.
      const accepted = await Promise.all(files.map(async (file) => !problem(file) && isImage(file)));
      for (const entry of entries) entry.item.remove();
      entries = [];
      rest = files.length - 1;
      files = [files[Math.max(0, accepted.indexOf(true))]];
    }
    for (const file of files) {
      if (entries.some((entry) => isSame(entry.file, file))) {
        twice += 1;
        continue;
      }
      const why = entries.length >= maxFiles ? `exceeds the maximum of ${maxFiles} images at a time` : problem(file);
      entries.push(draw({ file, state: why ? "bad" : "ready", why }));
    }
    show();
    if (twice) summary.textContent += `${summary.textContent ? "; " : ""}${twice} already selected`;
    if (rest) summary.textContent += `; only one image can be selected here, ${rest} ignored`;
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
      // Most browsers can't display TIFF; the server checks the file.
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
    if (sent) parts.push(`${sent} image${sent === 1 ? "" : "s"} uploaded`);
    if (ready.length) parts.push(`${ready.length} image${ready.length === 1 ? "" : "s"} to upload, ${size(ready.reduce((sum, entry) => sum + entry.file.size, 0))}`);
    if (bad) parts.push(`${bad} not accepted; see the reason beside ${bad === 1 ? "the file" : "each file"}`);
    summary.textContent = parts.join("; ");
    send.disabled = busy || !ready.length;
    send.hidden = onward.isConnected && !ready.length;
    if (empty) empty.hidden = busy || entries.length > 0;
  }

  // A fresh copy of the page contains a valid CSRF token, also if the user signed in again in another tab.
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
      request.addEventListener("error", () => reject(new Error("the connection was lost")));
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
        // A full queue asks for a longer pause; retrying is then left to the user.
        if (answer.status !== 429 || answer.after > SOON || tries + 1 === MOST_TRIES) break;
        entry.facts.textContent = "waiting: the server is processing other images";
        await new Promise((resume) => { setTimeout(resume, 1000 * (answer.after || SOON)); });
      }
      if (answer.data?.slides?.length) {
        entry.url = answer.data.slides[0].url;
        mark(entry, "sent", "uploaded");
      }
      else if ([401, 403].includes(answer.status)) {
        mark(entry, "ready", `not uploaded: ${SIGNED_OUT}`);
        bar.remove();
        return "signed out";
      }
      else if (answer.status === 429 || answer.status >= 500) mark(entry, "ready", answer.data?.errors?.[0]?.reason || `not uploaded: the server is unavailable (${answer.status})`);
      else mark(entry, "bad", answer.data?.errors?.[0]?.reason || `was not accepted (${answer.status})`);
    } catch (error) {
      // The next attempt may succeed.
      mark(entry, "ready", `not uploaded: ${error.message}`);
    }
    bar.remove();
    return entry.state;
  }

  async function openCase() {
    if (form.dataset.uploadTo) return { add_slides: form.dataset.uploadTo, url: form.dataset.caseUrl || location.pathname };
    const body = new FormData(form);
    body.delete("images");
    // A token in the body takes precedence over the header, and may belong to an earlier session.
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
    throw new Error([401, 403].includes(answer.status) ? `Not uploaded: ${SIGNED_OUT}.` : `The server could not create the case (error ${answer.status}). Try again.`);
  }

  form.addEventListener("submit", async (event) => {
    const ready = entries.filter((entry) => entry.state === "ready");
    if (!ready.length) {
      // A case without images is submitted as an ordinary form.
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
        // The case exists now: later changes of these fields would not be saved.
        for (const control of form.elements) if (!["file", "hidden", "submit", "button"].includes(control.type)) {
          // Otherwise the browser would restore the disabled state when the page is reloaded.
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
          // After a sign-out, the remaining uploads would fail too.
          if (await sendOne(entry, opened.add_slides) === "signed out") waiting.length = 0;
          done += 1;
          line.value = (100 * done) / ready.length;
          text.textContent = `${done} of ${ready.length} done`;
        }
      };
      await Promise.all(Array.from({ length: Math.min(AT_ONCE, ready.length) }, step));
      const left = entries.filter((entry) => entry.state === "ready").length;
      const refused = entries.filter((entry) => entry.state === "bad");
      if (!left && !refused.length) {
        leaving = true;
        return location.assign(single && ready[0].url || opened.url);
      }
      text.textContent = `${arrived()} of ${entries.length} images uploaded.${left ? " Retry to upload the others." : ""}`;
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

// All files in the dropped entries and their subfolders.
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
