// OpenSeadragon with one layer over the image. Independent of models and analyses.

const { OpenSeadragon } = window;
const { Point } = OpenSeadragon;

const MAX_ZOOM = 16;
const ARROW_STEP = 60;
const STILL = matchMedia("(prefers-reduced-motion: reduce)").matches;

// OpenSeadragon adds its own style element unless one with this id exists. The security policy would block it, and it
// is not needed: it removes the outline of an element that never has the focus here.
const noStyle = document.createElementNS(null, "style");
noStyle.setAttribute("data-openseadragon-mobile-css", "");
document.head.append(noStyle);

const GESTURES = { clickToZoom: false, dblClickToZoom: false, dblClickDragToZoom: false, flickEnabled: false, pinchToZoom: true };

export class Viewer {
  constructor(element, width, height) {
    Object.assign(this, { element, width, height });
    this.layer = null;
    this.opacity = 0.45;
    this.scale = 1;
    this.smooth = false;
    this.boxes = [];
    this.lit = null;
    this.onhover = () => {};
    this.onpick = () => {};
    this.deep = new OpenSeadragon.Viewer({
      element,
      drawer: "canvas",
      tabIndex: "",
      keyboardNavEnabled: false,
      showNavigationControl: false,
      visibilityRatio: 1,
      constrainDuringPan: true,
      minZoomImageRatio: 1,
      maxZoomPixelRatio: MAX_ZOOM,
      // Prefers a sharper level over a blurred one.
      minPixelRatio: 0.8,
      animationTime: STILL ? 0 : 0.25,
      springStiffness: 8,
      // No wheel events are dropped, because unhandled ones are passed on to the page.
      minScrollDeltaTime: -1,
      // A long press without movement is also a click.
      clickTimeThreshold: Infinity,
      gestureSettingsMouse: GESTURES,
      gestureSettingsTouch: GESTURES,
      gestureSettingsPen: GESTURES,
      gestureSettingsUnknown: GESTURES,
      imageLoaderLimit: 6,
      tileRetryMax: 2,
      tileRetryDelay: 1000,
    });
    this.overlay = document.createElement("canvas");
    this.overlay.className = "viewer-overlay";
    this.deep.canvas.append(this.overlay);
    this.context = this.overlay.getContext("2d");
    this.listen();
  }

  // Resolves once the first pixels are drawn.
  open(source) {
    return new Promise((resolve, reject) => {
      this.deep.addOnceHandler("open-failed", (event) => reject(new Error(event.message)));
      this.deep.addOnceHandler("tile-load-failed", (event) => reject(new Error(event.message)));
      this.deep.addOnceHandler("tile-drawn", resolve);
      this.deep.open(source);
    });
  }

  get item() {
    return this.deep.world.getItemAt(0);
  }

  get fitted() {
    return this.deep.viewport.getZoom() <= this.deep.viewport.getHomeZoom() * 1.001;
  }

  fit() {
    this.deep.viewport.goHome();
    this.settle();
  }

  zoom(factor, at = null) {
    const { viewport } = this.deep;
    const wanted = Math.min(Math.max(viewport.getZoom() * factor, viewport.getMinZoom()), viewport.getMaxZoom());
    viewport.zoomTo(wanted, at && viewport.pointFromPixel(at, true));
    this.settle();
  }

  move(byX, byY) {
    const { viewport } = this.deep;
    viewport.panBy(viewport.deltaPointsFromPixels(new Point(-byX, -byY)));
    this.settle();
  }

  // Keeps the image in view.
  settle() {
    this.deep.viewport.applyConstraints();
    this.takeTouch();
  }

  // Touching a fitted image scrolls the page, because there is nothing to pan.
  takeTouch() {
    const action = this.fitted ? "pan-y" : "none";
    for (const part of [this.deep.container, this.deep.canvas]) part.style.touchAction = action;
  }

  toImage(event) {
    const box = this.element.getBoundingClientRect();
    const at = this.item.viewerElementToImageCoordinates(new Point(event.clientX - box.left, event.clientY - box.top));
    return [at.x, at.y];
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.paint());
  }

  paint() {
    const { context, overlay, item } = this;
    if (!item) return;
    const ratio = window.devicePixelRatio || 1;
    const { x: shownWidth, y: shownHeight } = this.deep.viewport.getContainerSize();
    const size = [Math.round(shownWidth * ratio), Math.round(shownHeight * ratio)];
    if (overlay.width !== size[0] || overlay.height !== size[1]) [overlay.width, overlay.height] = size;
    const from = item.imageToViewerElementCoordinates(new Point(0, 0));
    const to = item.imageToViewerElementCoordinates(new Point(this.width, this.height));
    Object.assign(this, { x: from.x, y: from.y, scale: (to.x - from.x) / this.width });
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, shownWidth, shownHeight);
    if (this.layer) {
      context.globalAlpha = this.opacity;
      context.imageSmoothingEnabled = this.smooth;
      context.drawImage(this.layer, from.x, from.y, to.x - from.x, to.y - from.y);
      context.globalAlpha = 1;
    }
    // A light line on a darker one, visible on pale and on dark tissue.
    for (const [width, style] of [[3, "rgb(0 0 0 / .35)"], [1, "rgb(255 255 255 / .8)"]]) {
      context.lineWidth = width;
      context.strokeStyle = style;
      for (const box of this.boxes) this.outline(box);
    }
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
    const { deep, element } = this;
    let wasFitted = true;
    let soft = true;
    deep.addHandler("open", () => this.settle());
    deep.addHandler("resize", () => { wasFitted = this.fitted; });
    deep.addHandler("after-resize", () => {
      if (wasFitted) deep.viewport.goHome(true);
      this.settle();
    });
    deep.addHandler("update-viewport", () => {
      this.paint();
      // From 4x zoom on, pixels are not smoothed. Each call redraws everything.
      if (soft === this.scale < 4) return;
      soft = !soft;
      deep.drawer.setImageSmoothingEnabled(soft);
    });
    deep.addHandler("animation-finish", () => this.takeTouch());
    deep.addHandler("canvas-scroll", (event) => {
      const { deltaY, ctrlKey } = event.originalEvent;
      event.preventDefaultAction = true;
      // Over a fitted image, the wheel scrolls the page; with Ctrl (a touchpad pinch) or on a zoomed image, it zooms.
      if (!ctrlKey && this.fitted && (deltaY > 0 || scrollY > 0)) {
        event.preventDefault = false;
        return;
      }
      this.zoom(Math.exp(-deltaY * (ctrlKey ? 0.01 : 0.002)), event.position);
    });
    deep.addHandler("canvas-click", (event) => {
      element.focus({ preventScroll: true });
      if (event.quick) this.onpick(...this.toImage(event.originalEvent));
    });
    deep.addHandler("canvas-drag", () => element.classList.add("dragging"));
    deep.addHandler("canvas-drag-end", () => element.classList.remove("dragging"));
    element.addEventListener("pointermove", (event) => {
      if (!event.buttons && this.item) this.onhover(...this.toImage(event), event);
    });
    element.addEventListener("pointerleave", () => this.onhover(null));
    element.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
      const by = moves[event.key];
      if (!by || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      this.move(by[0] * ARROW_STEP, by[1] * ARROW_STEP);
    });
  }
}
