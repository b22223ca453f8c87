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
    // Numbered outlines, the most important first.
    this.marks = [];
    this.lit = null;
    // Whether the whole image stays in view when the viewer changes its size.
    this.staysFitted = true;
    this.onhover = () => {};
    this.onpick = () => {};
    this.deep = new OpenSeadragon.Viewer({
      element,
      drawer: "canvas",
      tabIndex: "",
      keyboardNavEnabled: false,
      showNavigationControl: false,
      showNavigator: true,
      navigatorPosition: "BOTTOM_LEFT",
      navigatorSizeRatio: 0.18,
      navigatorRotate: false,
      navigatorBorderColor: "#fff",
      navigatorDisplayRegionColor: "#e0218a",
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
    this.staysFitted = true;
    this.deep.viewport.goHome();
    this.settle();
  }

  zoom(factor, at = null) {
    this.zoomTo(this.deep.viewport.getZoom() * factor, at);
  }

  // Step 1 fits the image; each further step doubles the size.
  step(number) {
    this.zoomTo(this.deep.viewport.getHomeZoom() * 2 ** (number - 1));
  }

  zoomTo(zoom, at = null) {
    const { viewport } = this.deep;
    const wanted = Math.min(Math.max(zoom, viewport.getMinZoom()), viewport.getMaxZoom());
    viewport.zoomTo(wanted, at && viewport.pointFromPixel(at, true));
    this.staysFitted = this.fitted;
    this.settle();
  }

  rotate(degrees) {
    const { viewport } = this.deep;
    viewport.setRotation(viewport.getRotation() + degrees, true);
    if (this.staysFitted) viewport.goHome(true);
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
    // The overview has nothing to add while the whole image is in view.
    this.element.classList.toggle("fitted", this.fitted);
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
    const [from, right, down] = [[0, 0], [this.width, 0], [0, this.height]].map(([x, y]) => item.imageToViewerElementCoordinates(new Point(x, y)));
    const across = [(right.x - from.x) / this.width, (right.y - from.y) / this.width];
    const along = [(down.x - from.x) / this.height, (down.y - from.y) / this.height];
    this.scale = Math.hypot(...across);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, overlay.width, overlay.height);
    // From here on in pixels of the image, which may be rotated.
    context.setTransform(...[...across, ...along, from.x, from.y].map((value) => value * ratio));
    if (this.layer) {
      context.globalAlpha = this.opacity;
      context.imageSmoothingEnabled = this.smooth;
      context.drawImage(this.layer, 0, 0, this.width, this.height);
      context.globalAlpha = 1;
    }
    // A light line on a darker one, visible on pale and on dark tissue.
    for (const [width, style] of [[3, "rgb(0 0 0 / .35)"], [1, "rgb(255 255 255 / .8)"]]) this.outline(this.boxes, width, style);
    for (const [width, style] of [[6, "rgb(0 0 0 / .75)"], [3, "#ffd84d"]]) this.outline(this.marks, width, style);
    if (this.lit) for (const [width, style] of [[4, "rgb(0 0 0 / .75)"], [2, "#fff"]]) this.outline([this.lit], width, style);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.marks.forEach((mark, i) => this.number(mark, i + 1));
  }

  outline(boxes, width, style) {
    this.context.lineWidth = width / this.scale;
    this.context.strokeStyle = style;
    for (const box of boxes) this.context.strokeRect(...box);
  }

  // A number in the upright corner of a box, whatever the rotation.
  number([x, y, width, height], number) {
    const corners = [[x, y], [x + width, y], [x, y + height], [x + width, y + height]].map((at) => this.item.imageToViewerElementCoordinates(new Point(...at)));
    const left = Math.min(...corners.map((at) => at.x));
    const top = Math.min(...corners.map((at) => at.y));
    const { context } = this;
    context.fillStyle = "rgb(0 0 0 / .85)";
    context.fillRect(left, top, 20, 20);
    context.fillStyle = "#ffd84d";
    context.font = "600 13px sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(String(number), left + 10, top + 11);
  }

  listen() {
    const { deep, element } = this;
    let resized = false;
    let soft = true;
    deep.addHandler("open", () => this.settle());
    deep.addHandler("canvas-pinch", () => { this.staysFitted = false; });
    // OpenSeadragon keeps the zoom after this event, so the image is fitted once that is done.
    deep.addHandler("after-resize", () => { resized = true; });
    deep.addHandler("update-viewport", () => {
      if (resized) {
        resized = false;
        if (this.staysFitted) deep.viewport.goHome(true);
        this.settle();
      }
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
      if (!event.buttons && this.item && !event.target.closest(".navigator")) this.onhover(...this.toImage(event), event);
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
