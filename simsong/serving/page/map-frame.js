// The map's drawing. It stands in a frame of its own because its library makes code as it runs, which the page's
// policy forbids: in here come numbers alone, and only numbers go out.
import createPubSub from './vendor/pub-sub-es.js';

window.createPubSub = createPubSub;
const told = (message) => parent.postMessage(message, location.origin);
const canvas = document.getElementById('map');

function ready() {
  return new Promise((resolve, reject) => {
    const script = document.createElement('script');
    script.src = 'vendor/regl-scatterplot.js';
    script.onload = resolve;
    script.onerror = reject;
    document.head.append(script);
  });
}

let plot;
window.addEventListener('message', async ({ data, origin }) => {
  if (origin !== location.origin) return;
  try {
    if (data.kind === 'draw') {
      document.body.style.background = data.background;
      await ready();
      const { width, height } = canvas.getBoundingClientRect();
      plot?.destroy();
      plot = window.createScatterplot.default({ canvas, width, height, pointSize: data.size, opacity: data.opacity, pointColor: data.colors, colorBy: 'valueA', backgroundColor: data.background, pointColorActive: data.active, pointColorHover: data.active, lassoOnLongPress: false, deselectOnDblClick: true, deselectOnEscape: true, performanceMode: data.x.length > 20000 });
      plot.subscribe('pointOver', (at) => told({ kind: 'over', at, place: plot.getScreenPosition(at) }));
      plot.subscribe('pointOut', () => told({ kind: 'out' }));
      plot.subscribe('select', ({ points }) => { if (points.length) told({ kind: 'select', at: points[0] }); });
      const narrow = Math.min(1, width / height);       // it fits the height, and would leave out the sides
      await plot.draw({ x: data.x.map((x) => narrow * x), y: data.y.map((y) => narrow * y), valueA: data.group });
      told({ kind: 'drawn', points: data.x.length });
    } else if (data.kind === 'zoom') await plot?.zoomToPoints(data.points, { padding: 0.35, transition: data.moving, transitionDuration: 700 });
    else if (data.kind === 'all') await plot?.reset({ preventEvent: true });
    else if (data.kind === 'select') plot?.select(data.points, { preventEvent: true });
    else if (data.kind === 'measure') told({ kind: 'frames', ms: await frames() });
  } catch (error) { told({ kind: 'failed', why: String(error.message || error) }); }
});
new ResizeObserver(() => { if (plot) { const { width, height } = canvas.getBoundingClientRect(); plot.set({ width, height }); } }).observe(canvas);

/** Milliseconds of each frame while the view moves. */
async function frames() {
  const times = [];
  let last = performance.now();
  const view = plot.get('cameraView');
  for (let at = 0; at < 60; at += 1) {
    const moved = new Float32Array(view);
    moved[12] += 0.004 * at;
    plot.set({ cameraView: moved });
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    times.push(now - last);
    last = now;
  }
  plot.set({ cameraView: view });
  return times;
}
told({ kind: 'here' });
