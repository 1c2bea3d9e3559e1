/** Images as ComfyUI serves them. */

/** The {width, height} of the image at an address, once it is loaded; null if it cannot be. */
export function sizeOf(url) {
  return new Promise((done) => {
    const probe = new Image();
    probe.onload = () => done({ width: probe.naturalWidth, height: probe.naturalHeight });
    probe.onerror = () => done(null);
    probe.src = url;
  });
}
