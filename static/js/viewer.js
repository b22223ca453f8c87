// An image that can be moved and zoomed, with one layer over it. Knows nothing of models.

const MAX_ZOOM = 16;

export class Viewer {
  constructor(canvas, image, width, height) {
    Object.assign(this, { canvas, image, width, height });
    this.context = canvas.getContext("2d");
    this.layer = null;
    this.opacity = 0.45;
    this.smooth = false;
    this.boxes = [];
    this.lit = null;
    this.onhover = () => {};
    this.onpick = () => {};
    this.pointers = new Map();
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.listen();
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !height) return;
    const fitted = !this.scale || Math.abs(this.scale - this.fitScale) < 1e-6;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.ratio = ratio;
    this.fitScale = Math.min(width / this.width, height / this.height);
    if (fitted) this.fit(); else this.settle();
  }

  fit() {
    this.scale = this.fitScale;
    this.x = (this.canvas.clientWidth - this.width * this.scale) / 2;
    this.y = (this.canvas.clientHeight - this.height * this.scale) / 2;
    this.draw();
  }

  // Keeps a part of the image in sight and the zoom within bounds.
  settle() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const place = (at, shown, size) => size <= shown ? (shown - size) / 2 : Math.min(0, Math.max(shown - size, at));
    this.x = place(this.x, width, this.width * this.scale);
    this.y = place(this.y, height, this.height * this.scale);
    this.draw();
  }

  zoom(factor, atX = this.canvas.clientWidth / 2, atY = this.canvas.clientHeight / 2) {
    const next = Math.min(Math.max(this.scale * factor, this.fitScale), Math.max(MAX_ZOOM, this.fitScale));
    this.x = atX - ((atX - this.x) * next) / this.scale;
    this.y = atY - ((atY - this.y) * next) / this.scale;
    this.scale = next;
    this.settle();
  }

  move(byX, byY) {
    this.x += byX;
    this.y += byY;
    this.settle();
  }

  toImage(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left - this.x) / this.scale, (event.clientY - box.top - this.y) / this.scale];
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.paint());
  }

  paint() {
    const { context, scale } = this;
    if (!this.ratio) return;
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.canvas.clientWidth, this.canvas.clientHeight);
    context.imageSmoothingEnabled = scale < 4;
    context.imageSmoothingQuality = "high";
    const place = [this.x, this.y, this.width * scale, this.height * scale];
    context.drawImage(this.image, ...place);
    if (this.layer) {
      context.globalAlpha = this.opacity;
      context.imageSmoothingEnabled = this.smooth;
      context.drawImage(this.layer, ...place);
      context.globalAlpha = 1;
    }
    context.strokeStyle = "rgb(255 255 255 / .55)";
    context.lineWidth = 1;
    for (const box of this.boxes) this.outline(box);
    if (this.lit) {
      context.lineWidth = 4;
      context.strokeStyle = "rgb(0 0 0 / .75)";
      this.outline(this.lit);
      context.lineWidth = 2;
      context.strokeStyle = "#fff";
      this.outline(this.lit);
    }
  }

  outline([x, y, width, height]) {
    this.context.strokeRect(this.x + x * this.scale + 0.5, this.y + y * this.scale + 0.5, width * this.scale - 1, height * this.scale - 1);
  }

  listen() {
    const { canvas, pointers } = this;
    canvas.addEventListener("wheel", (event) => {
      // Scrolling the page over the image stays scrolling; with Ctrl (a pinch on a touchpad) or once zoomed it zooms.
      if (!event.ctrlKey && this.scale <= this.fitScale * 1.001 && event.deltaY > 0) return;
      event.preventDefault();
      const box = canvas.getBoundingClientRect();
      this.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002)), event.clientX - box.left, event.clientY - box.top);
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, event);
      this.moved = 0;
    });
    canvas.addEventListener("pointermove", (event) => {
      const before = pointers.get(event.pointerId);
      if (!before) return this.onhover(...this.toImage(event), event);
      if (pointers.size === 1) {
        const [byX, byY] = [event.clientX - before.clientX, event.clientY - before.clientY];
        this.moved += Math.abs(byX) + Math.abs(byY);
        if (this.moved > 4) {
          canvas.classList.add("dragging");
          this.move(byX, byY);
        }
      } else if (pointers.size === 2) {
        const other = [...pointers.values()].find((pointer) => pointer.pointerId !== event.pointerId);
        const apart = (a, b) => Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
        const box = canvas.getBoundingClientRect();
        this.moved += 10;
        this.zoom(apart(event, other) / Math.max(1, apart(before, other)), (event.clientX + other.clientX) / 2 - box.left, (event.clientY + other.clientY) / 2 - box.top);
      }
      pointers.set(event.pointerId, event);
    });
    const end = (event) => {
      if (!pointers.delete(event.pointerId)) return;
      canvas.classList.remove("dragging");
      if (event.type === "pointerup" && !pointers.size && this.moved <= 4) this.onpick(...this.toImage(event));
    };
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
    canvas.addEventListener("pointerleave", () => this.onhover(null));
    canvas.addEventListener("keydown", (event) => {
      const step = 60;
      const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
      if (moves[event.key]) {
        event.preventDefault();
        this.move(...moves[event.key]);
      }
    });
  }
}
