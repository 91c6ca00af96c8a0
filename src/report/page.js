(async () => {
  const { explanation } = page;
  const tokens = explanation.tokens.map((token) => ({
    ...token,
    log_probability: real(token.log_probability),
    peak_seconds: real(token.peak_seconds),
  }));
  const words = explanation.words.map((word) => ({
    ...word,
    start_seconds: real(word.start_seconds),
    end_seconds: real(word.end_seconds),
    tokens: word.tokens.filter((index) => index >= 0 && index < tokens.length),
  })).filter((word) => word.tokens.length > 0);

  // ---------------------------------------------------------------- values

  /** Inflates a tensor: scales of its rows, then the codes of all of them. */
  async function unpack(tensor) {
    const binary = atob(tensor.data);
    const bytes = new Uint8Array(binary.length);
    for (let i = 0; i < bytes.length; i += 1) bytes[i] = binary.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
    const buffer = await new Response(stream).arrayBuffer();
    const view = new DataView(buffer);
    tensor.scales = Array.from({ length: tensor.rows },
      (_, i) => [view.getFloat64(16 * i, true), view.getFloat64(16 * i + 8, true)]);
    const start = 16 * tensor.rows;
    tensor.codes = tensor.bits === 16
      ? Uint16Array.from({ length: (buffer.byteLength - start) / 2 }, (_, i) => view.getUint16(start + 2 * i, true))
      : new Uint8Array(buffer, start);
    tensor.width = tensor.codes.length / tensor.rows;
    tensor.data = null;
  }

  /** Values of one row of a tensor; NaN where the original was not finite. */
  function row(tensor, index) {
    const [low, step] = tensor.scales[index];
    const missing = tensor.bits === 16 ? 65535 : 255;
    const out = new Float32Array(tensor.width);
    const start = index * tensor.width;
    for (let i = 0; i < out.length; i += 1) {
      const code = tensor.codes[start + i];
      out[i] = code === missing ? NaN : low + code * step;
    }
    return out;
  }

  /** Mean of equally long rows; a value that is not finite in any stays so. */
  function mean(rows) {
    if (rows.length === 1) return rows[0];
    const out = new Float32Array(rows[0].length);
    for (const values of rows) {
      for (let i = 0; i < out.length; i += 1) out[i] += values[i] / rows.length;
    }
    return out;
  }

  function extent(values) {
    let low = Infinity;
    let high = -Infinity;
    let broken = 0;
    let top = -1;
    for (let i = 0; i < values.length; i += 1) {
      const value = values[i];
      if (!Number.isFinite(value)) { broken += 1; continue; }
      if (value < low) low = value;
      if (value > high) high = value;
      if (top < 0 || Math.abs(value) > Math.abs(values[top])) top = i;
    }
    return { low, high, broken, top, empty: top < 0, constant: top >= 0 && low === high };
  }

  /** The magnitude that `share` of the finite values do not exceed. */
  function quantile(values, share) {
    const sizes = Float32Array.from(values).filter(Number.isFinite).map(Math.abs).sort();
    return sizes.length ? sizes[Math.min(sizes.length - 1, Math.floor(share * sizes.length))] : 0;
  }

  /** Largest finite value over the bins of each frame: (T, F) to (T). */
  function overFrequency(values, bins) {
    const out = new Float32Array(values.length / bins);
    for (let t = 0; t < out.length; t += 1) {
      let best = NaN;
      for (let f = 0; f < bins; f += 1) {
        const value = values[t * bins + f];
        if (Number.isFinite(value) && !(value <= best)) best = value;
      }
      out[t] = best;
    }
    return out;
  }

  /** Max-pools a series onto `count` frames that cover the same sound. */
  function pooled(series, count) {
    const out = new Float32Array(count);
    for (let j = 0; j < count; j += 1) {
      const end = Math.ceil(((j + 1) * series.length) / count);
      let best = NaN;
      for (let t = Math.floor((j * series.length) / count); t < end; t += 1) {
        if (Number.isFinite(series[t]) && !(series[t] <= best)) best = series[t];
      }
      out[j] = best;
    }
    return out;
  }

  /** Pearson's correlation, or null where it is undefined. */
  function pearson(a, b) {
    let n = 0; let meanA = 0; let meanB = 0;
    const both = (i) => Number.isFinite(a[i]) && Number.isFinite(b[i]);
    for (let i = 0; i < a.length; i += 1) if (both(i)) { n += 1; meanA += a[i]; meanB += b[i]; }
    if (n < 2) return null;
    meanA /= n; meanB /= n;
    let ab = 0; let aa = 0; let bb = 0;
    for (let i = 0; i < a.length; i += 1) {
      if (!both(i)) continue;
      ab += (a[i] - meanA) * (b[i] - meanB);
      aa += (a[i] - meanA) ** 2;
      bb += (b[i] - meanB) ** 2;
    }
    const scale = Math.sqrt(aa) * Math.sqrt(bb);
    return scale > 0 && Number.isFinite(scale) ? Math.max(-1, Math.min(1, ab / scale)) : null;
  }

  function number(value, digits = 3) {
    if (value === null || value === undefined || !Number.isFinite(value)) return 'not finite';
    const size = Math.abs(value);
    let text;
    if (size === 0) text = '0';
    else if (size >= 1e5 || size < 1e-3) text = value.toExponential(digits - 1);
    else text = String(Number(value.toPrecision(digits)));
    return minus(text);
  }
  const fixed = (value, digits) => (Number.isFinite(value) ? minus(value.toFixed(digits)) : 'not finite');
  const seconds = (value) => (Number.isFinite(value) ? `${value.toFixed(2)} s` : 'an unknown time');

  /** A token as it can be shown: never empty, no line breaks. */
  function shown(text) {
    const clean = text.replace(/\n/g, '\u23ce').replace(/\u2581/g, ' ').trim();
    return clean === '' ? '\u2423' : clean;
  }

  // ------------------------------------------------------------ the tensors

  const tensors = page.tensors;
  try {
    await Promise.all(tensors.map(unpack));
  } catch (problem) {
    element('trouble').textContent = `This browser cannot unpack the maps inside this page (${problem.message}); a newer one can.`;
    return;
  }
  const named = (name) => tensors.find((tensor) => tensor.name === name) || null;
  const features = named('features');
  const attention = named('attention');
  const maps = tensors.filter((tensor) => tensor.kind.startsWith('map-'));
  for (const tensor of maps) {
    tensor.info = explanation.maps.find((info) => info.name === tensor.name) || null;
    tensor.signed = tensor.scales.some(([low]) => low < 0);
  }

  const positive = (value) => (Number.isFinite(value) && value > 0 ? value : 0);
  const { model, audio } = explanation;
  const span = positive(model.frame_seconds * model.frames)
    || positive(model.encoder_frame_seconds * model.encoder_frames)
    || positive(audio.seconds) || 1;
  const encoderSpan = positive(model.encoder_frame_seconds * model.encoder_frames) || span;
  const whole = Math.max(span, encoderSpan);
  const padded = positive(audio.seconds) > 0 && audio.seconds < 0.9 * whole;

  /** Columns of a tensor on the time axis. */
  function columns(tensor) {
    const encoder = tensor.kind === 'attention' || tensor.kind === 'map-encoder';
    const frames = encoder ? model.encoder_frames : model.frames;
    const frame = (encoder ? encoderSpan : span) / frames;
    const count = Math.ceil(frames / tensor.stride);
    return {
      count,
      start: (j) => j * tensor.stride * frame,
      end: (j) => Math.min((j + 1) * tensor.stride, frames) * frame,
      width: tensor.stride * frame,
      total: frames * frame,
      at: (time) => Math.min(count - 1, Math.max(0, Math.floor(time / (tensor.stride * frame) + 1e-9))),
    };
  }

  // --------------------------------------------------------------- choices

  const state = {
    word: null,
    token: tokens.length ? 0 : null,
    map: maps.length ? maps[0] : null,
    layer: null,
    head: null,
    cursor: null,
  };

  const chosen = () => {
    if (state.word !== null) return words[state.word].tokens;
    return state.token === null ? [] : [state.token];
  };

  /** Attention of one token: (T'). */
  function attentionOf(token) {
    const [layers, heads, count] = attention.shape;
    const rows = [];
    for (let layer = 0; layer < layers; layer += 1) {
      if (state.layer !== null && layer !== state.layer) continue;
      for (let head = 0; head < heads; head += 1) {
        if (state.head !== null && head !== state.head) continue;
        rows.push(row(attention, (layer * heads + head) * count + token));
      }
    }
    return mean(rows);
  }

  const memo = new Map();
  function remember(key, make) {
    if (!memo.has(key)) {
      if (memo.size > 24) memo.delete(memo.keys().next().value);
      memo.set(key, make());
    }
    return memo.get(key);
  }
  const choiceKey = () => `${state.layer}/${state.head}`;
  const allAttention = () => remember(`attention ${choiceKey()}`, () => tokens.map((_, i) => attentionOf(i)));
  const profile = (tensor, values) => (tensor.kind === 'map-input' ? overFrequency(values, tensor.shape[2]) : values);
  const allProfiles = (tensor) => remember(`profiles ${tensor.name}`, () => tokens.map((_, i) => profile(tensor, row(tensor, i))));

  /** What is drawn for the present choice. */
  function view() {
    const picked = chosen();
    const out = { picked, map: state.map, values: null, series: null, attention: null, correlation: null };
    if (!picked.length) return out;
    if (attention) out.attention = mean(picked.map((i) => allAttention()[i]));
    if (state.map) {
      out.values = mean(picked.map((i) => row(state.map, i)));
      out.extent = extent(out.values);
      if (state.map.kind !== 'map-tokens') {
        out.series = profile(state.map, out.values);
        if (attention) out.correlation = pearson(pooled(out.series, out.attention.length), out.attention);
      }
      const how = element('range').value;
      let reach;
      if (how === 'all') {
        reach = remember(`reach ${state.map.name}`, () => Math.max(0, ...tokens.map((_, i) => {
          const { low, high, empty } = extent(row(state.map, i));
          return empty ? 0 : Math.max(Math.abs(low), Math.abs(high));
        })));
      } else {
        reach = quantile(out.values, how === 'most' ? 0.995 : 1);
        if (reach === 0 && !out.extent.empty) reach = Math.max(Math.abs(out.extent.low), Math.abs(out.extent.high));
      }
      out.reach = reach;
    }
    return out;
  }

  // ---------------------------------------------------------------- colour

  /** OKLCh to sRGB bytes (the OKLab matrices are Bj\u00f6rn Ottosson's). */
  function oklch(lightness, chroma, degrees) {
    const a = chroma * Math.cos((degrees * Math.PI) / 180);
    const b = chroma * Math.sin((degrees * Math.PI) / 180);
    const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
    const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
    const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
    return [
      4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
      -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
      -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
    ].map((linear) => {
      const value = Math.min(1, Math.max(0, linear));
      const coded = value <= 0.0031308 ? 12.92 * value : 1.055 * value ** (1 / 2.4) - 0.055;
      return Math.round(255 * coded);
    });
  }

  const table = (colour) => Array.from({ length: 256 }, (_, i) => colour(i / 255));
  /** Lightness is linear in every palette, and zero has the tone of the page. */
  const palettes = (dark) => ({
    grey: table((t) => oklch(dark ? 0.2 + 0.48 * t : 0.985 - 0.5 * t, 0.004, 260)),
    sequential: table((t) => {
      const rise = dark ? t : 1 - t;
      return oklch(0.23 + 0.74 * rise, 0.012 + 0.165 * Math.sin(Math.PI * rise) ** 0.8, 285 + 175 * rise);
    }),
    diverging: table((t) => {
      const side = 2 * t - 1;
      const size = Math.abs(side);
      return oklch(dark ? 0.23 + 0.55 * size : 0.975 - 0.5 * size, 0.15 * size ** 0.9, side < 0 ? 255 : 50);
    }),
  });
  const sets = { light: palettes(false), dark: palettes(true) };
  const palette = (name) => sets[dark() ? 'dark' : 'light'][name];
  const style = (name) => getComputedStyle(root).getPropertyValue(name).trim();

  /** Position of a value in its palette, 0 to 1. */
  const place = (value, reach, signed) => {
    const share = reach > 0 ? value / reach : 0;
    return Math.min(1, Math.max(0, signed ? (share + 1) / 2 : share));
  };

  /** An image of shares, `at(column, row)`; row 0 at the bottom if `upward`. */
  function image(width, height, at, colours, upward, alpha) {
    const canvas = document.createElement('canvas');
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext('2d');
    const pixels = context.createImageData(width, height);
    for (let y = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1) {
        const share = at(x, upward ? height - 1 - y : y);
        const start = 4 * (y * width + x);
        if (!Number.isFinite(share)) continue;
        const [red, green, blue] = colours[Math.round(255 * share)];
        pixels.data[start] = red;
        pixels.data[start + 1] = green;
        pixels.data[start + 2] = blue;
        pixels.data[start + 3] = alpha ? Math.round(255 * alpha(share)) : 255;
      }
    }
    context.putImageData(pixels, 0, 0);
    return canvas;
  }

  const featureValues = () => remember('features', () => row(features, 0));

  // --------------------------------------------------------------- drawing

  const axis = { left: 60, right: 12, width: 0, begin: 0, end: whole };
  const xOf = (time) => axis.left + ((time - axis.begin) / (axis.end - axis.begin)) * axis.width;
  const timeAt = (x) => axis.begin + ((x - axis.left) / axis.width) * (axis.end - axis.begin);

  const canvasFont = '12px system-ui, "DejaVu Sans", sans-serif';

  /** Sizes a canvas for the screen and hands it to `draw`. */
  function paint(id, height, draw) {
    const canvas = element(id);
    const width = element('plots').clientWidth;
    const ratio = window.devicePixelRatio || 1;
    canvas.style.height = `${height}px`;
    canvas.width = Math.max(1, Math.round(width * ratio));
    canvas.height = Math.max(1, Math.round(height * ratio));
    const context = canvas.getContext('2d');
    context.scale(ratio, ratio);
    context.font = canvasFont;
    context.textBaseline = 'middle';
    draw(context, width, height);
  }

  function clipped(context, top, height, draw) {
    context.save();
    context.beginPath();
    context.rect(axis.left, top, axis.width, height);
    context.clip();
    draw();
    context.restore();
  }

  /** Stretches an image whose columns are frames over the time axis. */
  function stretch(context, picture, grid, top, height) {
    const left = xOf(0);
    const right = xOf(grid.count * grid.width);
    const ratio = window.devicePixelRatio || 1;
    context.imageSmoothingEnabled = picture.width > (right - left) * ratio || picture.height > height * ratio;
    context.imageSmoothingQuality = 'high';
    context.drawImage(picture, left, top, right - left, height);
  }

  /** Text cut to a width with an ellipsis. */
  function fitted(context, text, width) {
    if (context.measureText(text).width <= width) return text;
    const letters = Array.from(text);
    while (letters.length && context.measureText(`${letters.join('')}\u2026`).width > width) letters.pop();
    return letters.length ? `${letters.join('')}\u2026` : '';
  }

  function line(context, x0, y0, x1, y1, colour, dash = []) {
    context.strokeStyle = colour;
    context.lineWidth = 1;
    context.setLineDash(dash);
    context.beginPath();
    context.moveTo(x0, y0);
    context.lineTo(x1, y1);
    context.stroke();
    context.setLineDash([]);
  }

  const timed = words.map((word, index) => ({ word, index }))
    .filter(({ word }) => Number.isFinite(word.start_seconds) && Number.isFinite(word.end_seconds))
    .sort((a, b) => a.word.start_seconds - b.word.start_seconds);
  const isActive = ({ word, index }) => state.word === index || (state.word === null && word.tokens.includes(state.token));
  const laneHeight = 17;
  const mostLanes = 3;

  /** Whether a word's times are not to be trusted; earlier files do not say. */
  const unsure = (word) => Boolean(explanation.words_from) && !word.reliable;
  /** A word over the time axis, as the terminal writes it. */
  const spoken = (word) => `${shown(word.text)}${unsure(word) ? ' ?' : ''}`;

  /** Gives a word a text from its beginning on, or to the end of the axis. */
  function setText(context, item, text) {
    const wide = text ? context.measureText(text).width + 6 : 0;
    item.text = text;
    item.from = Math.max(axis.left, Math.min(item.left, axis.left + axis.width - wide));
    item.reach = Math.max(item.right, item.from + wide);
  }

  /**
   * Where words stand over the time axis: each in the first lane in which its box, and its text
   * beside it, have room. Where none has, a word has its box alone, so that texts thin out.
   */
  function placeWords(context) {
    const ends = [];
    for (const item of timed) {
      item.left = Math.max(axis.left, xOf(item.word.start_seconds));
      item.right = Math.max(item.left + 3, xOf(item.word.end_seconds));
      const text = spoken(item.word);
      // A long word is cut where another follows, and not before.
      const texts = [text, fitted(context, text, 90)];
      item.text = '';
      item.lane = -1;
      for (const label of texts) {
        setText(context, item, label);
        let lane = ends.findIndex((end) => end <= item.from + 0.5);
        if (lane < 0 && ends.length < mostLanes) lane = ends.length;
        if (lane < 0) continue;
        item.lane = lane;
        ends[lane] = item.reach;
        break;
      }
      if (item.lane < 0) {
        let lane = ends.findIndex((end) => end + 1 <= item.left);
        if (lane < 0) lane = ends.length < mostLanes ? ends.length : ends.indexOf(Math.min(...ends));
        item.lane = lane;
        setText(context, item, '');
        ends[lane] = Math.max(ends[lane] || 0, item.right);
      }
    }
    return ends.length;
  }

  function drawLane() {
    element('words-lane').hidden = !timed.length;
    if (!timed.length) return;
    const measure = element('words-lane').getContext('2d');
    measure.font = canvasFont;
    const lanes = placeWords(measure);
    paint('words-lane', lanes * laneHeight + 4, (context, width, height) => {
      context.fillStyle = style('--faint');
      context.fillText('words', 8, laneHeight / 2);
      const active = timed.filter(isActive);
      for (const item of active) {
        if (item.text) continue;
        // The chosen word always says its text; others give way below.
        setText(context, item, fitted(context, spoken(item.word), 160));
      }
      const covered = (item) => active.some((own) => own.lane === item.lane && own.from < item.reach && item.from < own.reach);
      const box = ({ lane }, left, right, colour) => {
        context.fillStyle = style(colour);
        context.fillRect(left + 0.5, lane * laneHeight + 1, right - left - 1, laneHeight - 2);
      };
      clipped(context, 0, height, () => {
        for (const item of timed) box(item, item.left, item.right, '--accent-soft');
        for (const item of timed) {
          const chosen = active.includes(item);
          if (!chosen && (!item.text || covered(item))) continue;
          if (chosen) box(item, item.from, item.reach, '--accent');
          context.fillStyle = style(chosen ? '--accent-ink' : '--ink');
          context.fillText(item.text, item.from + 3, item.lane * laneHeight + laneHeight / 2);
        }
      });
    });
  }

  /**
   * Heights of the plots: on a wide screen all that share the time axis are seen at once, the
   * matrix too; elsewhere one scrolls.
   */
  const heights = { spectrogram: 260, curves: 118, row: 18 };
  function chooseHeights() {
    const count = Math.max(1, tokens.length);
    const { top } = element('plots').getBoundingClientRect();
    const above = top + window.scrollY + element('words-lane').offsetHeight * !element('words-lane').hidden;
    const left = window.innerHeight - above - 20 - 34 - 24;
    if (window.innerWidth < 1100 || left < 300) {
      heights.spectrogram = element('plots').clientWidth < 560 ? 210 : 260;
      heights.curves = 118;
      heights.row = Math.max(5, Math.min(18, Math.floor(900 / count)));
      return;
    }
    heights.curves = left < 420 ? 66 : 90;
    const rows = Math.min(18 * count, Math.max(0.45 * left, left - heights.curves - 300)) + 4;
    heights.spectrogram = Math.round(Math.max(110, Math.min(300, left - heights.curves - rows)));
    heights.row = Math.max(2, Math.min(18, (left - heights.curves - heights.spectrogram - 4) / count));
  }

  /** Where a frequency lies among the bins, counted in bins. */
  function binOf(hertz) {
    const after = page.hertz.findIndex((centre) => centre >= hertz);
    if (after <= 0) return after < 0 ? NaN : hertz / page.hertz[0] - 1;
    const [low, high] = [page.hertz[after - 1], page.hertz[after]];
    return after - 1 + (hertz - low) / (high - low);
  }

  /** Marks of the vertical axis: bins, and what stands beside them. */
  function frequencyMarks(bins) {
    if (!page.hertz.length) {
      const step = [10, 20, 25, 50, 100, 200].find((size) => bins / size <= 5) || bins;
      const count = Math.ceil(bins / step);
      return { title: 'mel bin', marks: Array.from({ length: count }, (_, i) => [i * step, String(i * step)]) };
    }
    const marks = [100, 250, 500, 1000, 2000, 4000, 8000].map((hertz) => [binOf(hertz), String(hertz)]);
    return { title: 'frequency, Hz', marks: marks.filter(([bin]) => bin >= -0.5 && bin <= bins - 0.5) };
  }

  const frequency = (bin) => (page.hertz.length ? `${Math.round(page.hertz[bin])} Hz (mel bin ${bin})` : `mel bin ${bin}`);

  function drawSpectrogram(now) {
    paint('spectrogram', heights.spectrogram, (context, width, height) => {
      const top = 2;
      const tall = height - 4;
      const bins = model.mel_bins;
      context.fillStyle = style('--paper');
      context.fillRect(axis.left, top, axis.width, tall);
      if (features) {
        const grid = columns(features);
        const picture = remember(`features ${dark()}`, () => {
          const values = featureValues();
          const sorted = Float32Array.from(values).filter(Number.isFinite).sort();
          features.low = sorted.length ? sorted[Math.floor(0.02 * sorted.length)] : 0;
          features.high = sorted.length ? sorted[Math.floor(0.995 * (sorted.length - 1))] : 0;
          const reach = features.high - features.low;
          return image(grid.count, bins, (x, y) => {
            const value = values[x * bins + y];
            return Number.isFinite(value) ? place(value - features.low, reach, false) : NaN;
          }, palette('grey'), true);
        });
        clipped(context, top, tall, () => stretch(context, picture, grid, top, tall));
      }
      const { map } = now;
      if (map && map.kind !== 'map-tokens' && now.values && !now.extent.constant && !now.extent.empty) {
        const grid = columns(map);
        const rows = map.kind === 'map-input' ? map.shape[2] : 1;
        const opacity = Number(element('opacity').value) / 100;
        const size = (share) => (map.signed ? Math.abs(2 * share - 1) : share);
        const picture = image(grid.count, rows, (x, y) => {
          const value = now.values[x * rows + y];
          return Number.isFinite(value) ? place(value, now.reach, map.signed) : NaN;
        }, palette(map.signed ? 'diverging' : 'sequential'), true, (share) => opacity * Math.min(1, 1.7 * size(share) ** 0.8));
        clipped(context, top, tall, () => {
          if (map.kind === 'map-input') stretch(context, picture, grid, top, tall);
          else stretch(context, picture, grid, top, 22);
        });
        if (map.kind === 'map-encoder') {
          line(context, axis.left, top + 22.5, axis.left + axis.width, top + 22.5, style('--line'));
        }
      }
      clipped(context, top, tall, () => {
        const ink = style('--ink');
        for (const item of timed) {
          if (!isActive(item)) continue;
          const { word } = item;
          for (const time of [word.start_seconds, word.end_seconds]) {
            line(context, xOf(time), top, xOf(time), top + tall, ink, [6, 3]);
          }
        }
      });
      context.fillStyle = style('--faint');
      context.textAlign = 'right';
      const { title, marks } = frequencyMarks(bins);
      let free = Infinity;
      for (const [bin, text] of marks) {
        const y = top + tall - ((bin + 0.5) / bins) * tall;
        line(context, axis.left - 5, y, axis.left, y, style('--line'));
        if (y > free) continue;
        context.fillText(text, axis.left - 8, Math.max(8, Math.min(height - 7, y)));
        free = y - 14;
      }
      context.textAlign = 'left';
      context.save();
      context.translate(12, height / 2);
      context.rotate(-Math.PI / 2);
      context.textAlign = 'center';
      context.fillText(title, 0, 0);
      context.restore();
      context.strokeStyle = style('--line');
      context.strokeRect(axis.left + 0.5, top + 0.5, axis.width - 1, tall - 1);
    });
  }

  /** One series as steps, each scaled to its own largest magnitude. */
  function steps(context, series, grid, colour, dash, yOf) {
    const { low, high, empty } = extent(series);
    const reach = empty ? 0 : Math.max(Math.abs(low), Math.abs(high));
    context.strokeStyle = colour;
    context.lineWidth = 2;
    context.setLineDash(dash);
    context.beginPath();
    let open = false;
    for (let j = 0; j < series.length; j += 1) {
      if (!Number.isFinite(series[j])) { open = false; continue; }
      const y = yOf(reach > 0 ? series[j] / reach : 0);
      if (open) context.lineTo(xOf(grid.start(j)), y);
      else context.moveTo(xOf(grid.start(j)), y);
      context.lineTo(xOf(grid.end(j)), y);
      open = true;
    }
    context.stroke();
    context.setLineDash([]);
  }

  function drawCurves(now) {
    const strip = heights.curves < 80 ? 11 : 14;
    const height = heights.curves;
    paint('curves', height, (context) => {
      const top = 3;
      const attentionStrip = now.attention ? strip : 0;
      const mapStrip = now.series ? strip : 0;
      if (now.attention) {
        const grid = columns(attention);
        const reach = quantile(now.attention, 1);
        const picture = image(grid.count, 1, (x) => (Number.isFinite(now.attention[x]) ? place(now.attention[x], reach, false) : NaN), palette('sequential'), false);
        clipped(context, top, strip - 2, () => stretch(context, picture, grid, top, strip - 2));
      }
      if (now.series) {
        const grid = columns(now.map);
        const reach = quantile(now.series, 1);
        const y = top + attentionStrip;
        const picture = image(grid.count, 1, (x) => (Number.isFinite(now.series[x]) ? place(now.series[x], reach, now.map.signed) : NaN), palette(now.map.signed ? 'diverging' : 'sequential'), false);
        clipped(context, y, strip - 2, () => stretch(context, picture, grid, y, strip - 2));
      }
      const begin = top + attentionStrip + mapStrip + 4;
      const tall = height - begin - 4;
      const below = now.series && now.map.signed ? 0.5 : 0;
      const yOf = (share) => begin + tall * (1 - below) * (1 - share);
      line(context, axis.left, yOf(0), axis.left + axis.width, yOf(0), style('--line'));
      clipped(context, begin - 2, tall + 4, () => {
        if (now.series) steps(context, now.series, columns(now.map), style('--saliency'), [], yOf);
        if (now.attention) steps(context, now.attention, columns(attention), style('--attention'), [5, 3], yOf);
        for (const index of now.picked) {
          const time = tokens[index].peak_seconds;
          if (!Number.isFinite(time)) continue;
          context.fillStyle = style('--attention');
          context.beginPath();
          context.moveTo(xOf(time) - 5, begin - 2);
          context.lineTo(xOf(time) + 5, begin - 2);
          context.lineTo(xOf(time), begin + 6);
          context.fill();
        }
      });
      context.textAlign = 'right';
      context.fillStyle = style('--attention');
      if (now.attention) context.fillText('attention', axis.left - 4, top + strip / 2 - 1);
      context.fillStyle = style('--saliency');
      if (now.series) context.fillText('map', axis.left - 4, top + attentionStrip + strip / 2 - 1);
      context.fillStyle = style('--faint');
      context.fillText('1', axis.left - 8, yOf(1) + 5);
      context.fillText('0', axis.left - 8, below ? yOf(0) : yOf(0) - 4);
      if (below) context.fillText('\u22121', axis.left - 8, yOf(-1) - 4);
      context.textAlign = 'left';
    });
  }

  /** With its title, or slim. */
  function drawAxis(id, titled) {
    paint(id, titled ? 34 : 20, (context, width) => {
      const wanted = (axis.end - axis.begin) / Math.max(2, axis.width / 70);
      const power = 10 ** Math.floor(Math.log10(wanted));
      const step = [1, 2, 5, 10].map((size) => size * power).find((size) => size >= wanted - 1e-12) || wanted;
      const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
      context.fillStyle = style('--ink');
      context.textAlign = 'center';
      for (let k = Math.ceil(axis.begin / step); k * step <= axis.end + 1e-9; k += 1) {
        const x = xOf(k * step);
        line(context, x, 0, x, 5, style('--faint'));
        const text = (k * step).toFixed(digits);
        const half = context.measureText(text).width / 2;
        context.fillText(text, Math.min(x, width - half - 2), 13);
      }
      context.fillStyle = style('--faint');
      if (titled) context.fillText('time in seconds', axis.left + axis.width / 2, 27);
      context.textAlign = 'left';
    });
  }

  function matrixRows() {
    const source = element('matrix-of').value;
    if (source === 'map' && state.map && state.map.kind !== 'map-tokens') {
      return { grid: columns(state.map), rows: allProfiles(state.map), signed: state.map.signed, name: `${state.map.name} over time` };
    }
    if (source === 'attention' && attention) {
      return { grid: columns(attention), rows: allAttention(), signed: false, name: 'cross-attention' };
    }
    return null;
  }

  const matrix = { row: 18, top: 2 };
  function drawMatrix() {
    const source = tokens.length ? matrixRows() : null;
    element('matrix').hidden = !source;
    element('axis-below').hidden = !source;
    if (!source) return null;
    matrix.row = heights.row;
    const height = matrix.row * tokens.length + 4;
    const reach = Math.max(0, ...source.rows.map((values) => quantile(values, 1)));
    paint('matrix', height, (context) => {
      const picture = image(source.grid.count, tokens.length, (x, y) => {
        const value = source.rows[y][x];
        return Number.isFinite(value) ? place(value, reach, source.signed) : NaN;
      }, palette(source.signed ? 'diverging' : 'sequential'), false);
      const tall = matrix.row * tokens.length;
      clipped(context, matrix.top, tall, () => stretch(context, picture, source.grid, matrix.top, tall));
      const picked = chosen();
      context.textAlign = 'right';
      // Where rows are lower than a text, every n-th one has its text; the
      // chosen ones always, and their neighbours give way.
      const every = Math.ceil(12.5 / matrix.row);
      const middle = (i) => Math.max(7, Math.min(height - 7, matrix.top + (i + 0.5) * matrix.row));
      const labelled = new Map();
      const others = tokens.map((_, i) => i).filter((i) => i % every === 0);
      for (const i of [...picked, ...others]) {
        const free = [...labelled.values()].every((y) => Math.abs(y - middle(i)) >= 12);
        if (free) labelled.set(i, middle(i));
      }
      tokens.forEach((token, i) => {
        const y = matrix.top + i * matrix.row;
        const active = picked.includes(i);
        if (labelled.has(i)) {
          context.font = `${active ? '600 ' : ''}${Math.min(12, Math.max(10, matrix.row - 3))}px system-ui, "DejaVu Sans", sans-serif`;
          context.fillStyle = active ? style('--ink') : style('--faint');
          context.fillText(fitted(context, shown(token.text), axis.left - 14), axis.left - 8, labelled.get(i));
        }
        if (Number.isFinite(token.peak_seconds) && matrix.row >= 5) {
          const x = xOf(token.peak_seconds);
          const half = Math.min(3.5, matrix.row / 2 - 0.5);
          context.fillStyle = '#000000';
          context.fillRect(x - 2.5, y + matrix.row / 2 - half, 5, 2 * half);
          context.fillStyle = '#ffffff';
          context.fillRect(x - 1.5, y + matrix.row / 2 - half + 1, 3, 2 * half - 2);
        }
      });
      // One frame around rows that follow each other.
      context.strokeStyle = style('--ink');
      context.lineWidth = matrix.row < 6 ? 1 : 1.5;
      for (const first of picked) {
        if (picked.includes(first - 1)) continue;
        let last = first;
        while (picked.includes(last + 1)) last += 1;
        const high = (last - first + 1) * matrix.row - 1;
        context.strokeRect(axis.left - 4, matrix.top + first * matrix.row + 0.5, axis.width + 7, Math.max(1, high));
      }
      context.textAlign = 'left';
    });
    element('matrix').setAttribute('aria-label', `${tokens.length} tokens by time: ${source.name}. The token buttons select a row.`);
    return { ...source, reach };
  }

  // ---------------------------------------------------------------- legend

  function bar(title, colours, numbers) {
    const figure = document.createElement('figure');
    const caption = document.createElement('figcaption');
    caption.textContent = title;
    const canvas = document.createElement('canvas');
    canvas.width = 256;
    canvas.height = 1;
    const picture = image(256, 1, (x) => x / 255, colours, false);
    canvas.getContext('2d').drawImage(picture, 0, 0);
    canvas.setAttribute('aria-hidden', 'true');
    const ticks = document.createElement('div');
    ticks.className = 'ticks';
    for (const text of numbers) {
      const tick = document.createElement('span');
      tick.textContent = text;
      ticks.append(tick);
    }
    figure.append(caption, canvas, ticks);
    return figure;
  }

  function drawLegend(now, source) {
    const bars = [];
    if (now.map && now.values && !now.extent.constant && !now.extent.empty) {
      const over = (text, more) => (more ? `\u2265 ${text}` : text);
      const under = (text, more) => (more ? `\u2264 ${text}` : text);
      const { reach } = now;
      bars.push(now.map.signed
        ? bar(now.map.name, palette('diverging'), [under(number(-reach), now.extent.low < -reach), '0', over(number(reach), now.extent.high > reach)])
        : bar(now.map.name, palette('sequential'), ['0', number(reach / 2), over(number(reach), now.extent.high > reach)]));
    }
    if (source) {
      bars.push(source.signed
        ? bar(`matrix: ${source.name}`, palette('diverging'), [number(-source.reach), '0', number(source.reach)])
        : bar(`matrix: ${source.name}`, palette('sequential'), ['0', number(source.reach / 2), number(source.reach)]));
    }
    if (features && Number.isFinite(features.low)) {
      bars.push(bar(page.samples === null ? 'spectrogram: the model\u2019s features' : 'spectrogram, for the eye', palette('grey'),
        [number(features.low), number((features.low + features.high) / 2), number(features.high)]));
    }
    element('legend').replaceChildren(...bars);
  }

  // ------------------------------------------------------------------ text

  const quoted = (text) => `\u201c${shown(text)}\u201d`;

  function describe(now) {
    if (!now.picked.length) return 'No token was explained.';
    const parts = [];
    if (state.word !== null) {
      const word = words[state.word];
      parts.push(`Word ${state.word + 1} of ${words.length}, ${quoted(word.text)}: mean over ${word.tokens.length} token${word.tokens.length === 1 ? '' : 's'}`);
      const total = word.tokens.reduce((sum, i) => sum + tokens[i].log_probability, 0);
      parts.push(`log-probability ${fixed(total, 3)} in all`);
      parts.push(`from ${seconds(word.start_seconds)} to ${seconds(word.end_seconds)}${unsure(word) ? ' (unsure)' : ''}`);
    } else {
      const token = tokens[state.token];
      parts.push(`Token ${state.token + 1} of ${tokens.length}, ${quoted(token.text)}${token.special ? ' (special)' : ''}`);
      parts.push(Number.isFinite(token.log_probability)
        ? `log-probability ${fixed(token.log_probability, 3)} (probability ${number(Math.exp(token.log_probability))})`
        : 'log-probability not finite');
      parts.push(`attention peaks at ${seconds(token.peak_seconds)}`);
    }
    if (now.map && now.values) {
      const { name } = now.map;
      const { extent: range } = now;
      if (range.empty) parts.push(`${name} has no finite value`);
      else if (range.constant) parts.push(`${name} is a constant map, ${number(range.low)} everywhere`);
      else if (now.map.kind === 'map-tokens') parts.push(`${name} is strongest at the token ${quoted(tokens[range.top].text)}`);
      else {
        const bins = now.map.kind === 'map-input' ? now.map.shape[2] : 1;
        const grid = columns(now.map);
        const column = Math.floor(range.top / bins);
        const where = seconds((grid.start(column) + grid.end(column)) / 2);
        parts.push(`${name} is strongest at ${where}${bins > 1 ? `, ${frequency(range.top % bins)}` : ''}`);
      }
      if (now.series && now.attention) {
        parts.push(now.correlation === null
          ? 'its correlation with attention over time is undefined'
          : `its correlation with attention over time is ${fixed(now.correlation, 2)}`);
      }
    }
    return `${parts.join('; ')}.`;
  }

  function noteMap(now) {
    const note = element('map-note');
    const parts = [];
    let loud = false;
    if (!now.map) parts.push('This explanation has no saliency map that can be shown.');
    else if (now.values) {
      if (now.extent.empty) { parts.push('No finite value in this map.'); loud = true; }
      else if (now.extent.constant) { parts.push(`Constant map: every value is ${number(now.extent.low)}. There is nothing to colour.`); loud = true; }
      if (now.extent.broken && !now.extent.empty) parts.push(`${now.extent.broken} of ${now.values.length} values are not finite and left blank.`);
      if (now.map.kind === 'map-tokens') parts.push('This map is over the tokens written before: it colours the upper edge of the token buttons.');
      if (now.map.kind === 'map-encoder') parts.push('This map has a time axis only: it is the strip at the top of the spectrogram.');
      if (now.map.stride > 1) parts.push(`To keep this file small, ${now.map.stride} frames are averaged into one.`);
    }
    note.textContent = parts.join(' ');
    note.classList.toggle('loud', loud);
  }

  // --------------------------------------------------------------- buttons

  const tokenButtons = [];
  const wordButtons = [];

  function make(tag, className, text) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  }

  function tokenButton(index) {
    const token = tokens[index];
    const button = make('button', 'token');
    button.type = 'button';
    button.tabIndex = -1;
    button.append(make('bdi', '', shown(token.text)));
    const chance = Number.isFinite(token.log_probability) ? Math.min(1, Math.exp(token.log_probability)) : 0;
    const gauge = make('span', 'probability');
    const fill = make('i');
    fill.style.width = `${100 * chance}%`;
    gauge.append(fill);
    button.append(gauge);
    button.setAttribute('aria-label', `token ${index + 1}, ${shown(token.text)}${token.special ? ', special' : ''}`);
    button.title = `${JSON.stringify(token.text)}, id ${token.id}, position ${token.position}`;
    button.dataset.token = index;
    button.addEventListener('click', () => select({ token: index }));
    tokenButtons[index] = button;
    return button;
  }

  function buildTokens() {
    const owner = new Map();
    words.forEach((word, w) => word.tokens.forEach((i) => { if (!owner.has(i)) owner.set(i, w); }));
    const placed = new Set();
    tokens.forEach((token, i) => {
      if (placed.has(i)) return;
      const group = make('div', 'word');
      const pieces = make('div', 'pieces');
      group.setAttribute('role', 'group');
      if (owner.has(i)) {
        const w = owner.get(i);
        const button = make('button', '');
        button.type = 'button';
        button.tabIndex = -1;
        button.append(make('bdi', '', shown(words[w].text)));
        button.setAttribute('aria-label', `word ${w + 1}, ${shown(words[w].text)}`);
        button.dataset.word = w;
        button.addEventListener('click', () => select({ word: w }));
        wordButtons[w] = button;
        group.setAttribute('aria-label', `word ${shown(words[w].text)}`);
        group.append(button);
        for (const member of words[w].tokens) {
          if (placed.has(member)) continue;
          placed.add(member);
          pieces.append(tokenButton(member));
        }
      } else {
        placed.add(i);
        const flag = token.special ? 'special' : 'no word';
        group.classList.add('special');
        group.setAttribute('aria-label', flag);
        group.append(make('span', 'flag', flag));
        pieces.append(tokenButton(i));
      }
      group.append(pieces);
      element('tokens').append(group);
    });
    element('tokens').addEventListener('keydown', moveAmongTokens);
  }

  function moveAmongTokens(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const present = state.word === null ? tokenButtons : wordButtons;
    const order = [...element('tokens').querySelectorAll(state.word === null ? '[data-token]' : '[data-word]')];
    const here = order.indexOf(present[state.word === null ? state.token : state.word]);
    const go = (button) => {
      if (button) select(button.dataset.word === undefined ? { token: Number(button.dataset.token) } : { word: Number(button.dataset.word) }, true);
    };
    if (event.key === 'ArrowRight') go(order[Math.min(order.length - 1, here + 1)]);
    else if (event.key === 'ArrowLeft') go(order[Math.max(0, here - 1)]);
    else if (event.key === 'Home') go(order[0]);
    else if (event.key === 'End') go(order[order.length - 1]);
    else if (event.key === 'ArrowUp') {
      const w = words.findIndex((word) => word.tokens.includes(state.token));
      if (state.word === null && w >= 0) go(wordButtons[w]);
    } else if (event.key === 'ArrowDown') {
      if (state.word !== null) go(tokenButtons[words[state.word].tokens[0]]);
    } else return;
    event.preventDefault();
  }

  function markButtons(now) {
    const focus = state.word === null ? tokenButtons[state.token] : wordButtons[state.word];
    for (const button of [...tokenButtons, ...wordButtons]) {
      if (!button) continue;
      const pressed = button === focus;
      button.setAttribute('aria-pressed', String(pressed));
      button.tabIndex = pressed ? 0 : -1;
      button.classList.remove('within', 'tinted');
    }
    if (state.word !== null) for (const i of words[state.word].tokens) tokenButtons[i].classList.add('within');
    if (now.map && now.map.kind === 'map-tokens' && now.values && now.reach > 0) {
      const colours = palette(now.map.signed ? 'diverging' : 'sequential');
      tokenButtons.forEach((button, i) => {
        const value = now.values[i];
        if (!Number.isFinite(value) || value === 0) return;
        button.style.setProperty('--tint', `rgb(${colours[Math.round(255 * place(value, now.reach, now.map.signed))].join(' ')})`);
        button.classList.add('tinted');
      });
    }
  }

  function select(choice, focus = false) {
    state.word = choice.word === undefined ? null : choice.word;
    if (choice.token !== undefined) state.token = choice.token;
    else state.token = words[choice.word].tokens[0];
    update();
    const button = state.word === null ? tokenButtons[state.token] : wordButtons[state.word];
    if (!button) return;
    if (focus) button.focus({ preventScroll: true });
    const strip = element('tokens');
    const outer = strip.getBoundingClientRect();
    const inner = button.parentElement.getBoundingClientRect();
    if (inner.left < outer.left) strip.scrollLeft -= outer.left - inner.left + 12;
    else if (inner.right > outer.right) strip.scrollLeft += inner.right - outer.right + 12;
    if (inner.top < outer.top) strip.scrollTop -= outer.top - inner.top + 8;
    else if (inner.bottom > outer.bottom) strip.scrollTop += inner.bottom - outer.bottom + 8;
  }

  // ---------------------------------------------------------------- cursor

  function readAt(time, bin, token) {
    const parts = [seconds(time)];
    const now = current;
    if (token !== null) parts.push(`token ${quoted(tokens[token].text)}`);
    if (bin !== null) {
      parts.push(frequency(bin));
      if (features) parts.push(`${page.samples === null ? 'feature' : 'spectrogram'} ${number(featureValues()[columns(features).at(time) * model.mel_bins + bin])}`);
    }
    if (token !== null && tokens.length) {
      const source = matrixRows();
      if (source) parts.push(`${source.name} ${number(source.rows[token][source.grid.at(time)])}`);
      return parts.join(' \u00b7 ');
    }
    if (now.map && now.values && now.map.kind === 'map-input') {
      const column = columns(now.map).at(time);
      parts.push(bin === null
        ? `${now.map.name}, largest over frequency, ${number(now.series[column])}`
        : `${now.map.name} ${number(now.values[column * now.map.shape[2] + Math.min(bin, now.map.shape[2] - 1)])}`);
    } else if (now.series) {
      parts.push(`${now.map.name} ${number(now.series[columns(now.map).at(time)])}`);
    }
    if (now.attention) parts.push(`attention ${number(now.attention[columns(attention).at(time)])}`);
    return parts.join(' \u00b7 ');
  }

  function showCursor(time, bin, token, polite) {
    const at = Math.min(axis.end, Math.max(axis.begin, time));
    element('cursor').hidden = false;
    element('cursor').style.left = `${xOf(at)}px`;
    const readout = element('readout');
    if (polite) readout.setAttribute('aria-live', 'polite');
    else readout.removeAttribute('aria-live');
    readout.textContent = readAt(at, bin, token);
  }

  function follow(id, where) {
    const canvas = element(id);
    const read = (event) => {
      const box = canvas.getBoundingClientRect();
      const time = timeAt(event.clientX - box.left);
      if (time < axis.begin || time > axis.end) return;
      const { bin = null, token = null } = where(event.clientY - box.top, box.height);
      state.cursor = { time, bin: bin === null ? Math.floor(model.mel_bins / 2) : bin };
      showCursor(time, bin, token, false);
    };
    canvas.addEventListener('pointermove', read);
    canvas.addEventListener('pointerdown', read);
  }

  const binAt = (y, height) => Math.min(model.mel_bins - 1, Math.max(0, Math.floor((1 - (y - 2) / (height - 4)) * model.mel_bins)));
  const tokenAt = (y) => Math.min(tokens.length - 1, Math.max(0, Math.floor((y - matrix.top) / matrix.row)));

  function moveCursor(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const frame = span / model.frames;
    const spot = state.cursor || { time: (axis.begin + axis.end) / 2, bin: Math.floor(model.mel_bins / 2) };
    const far = event.shiftKey ? 10 : 1;
    let { time, bin } = spot;
    if (event.key === 'ArrowRight') time += frame * far;
    else if (event.key === 'ArrowLeft') time -= frame * far;
    else if (event.key === 'ArrowUp') bin += far;
    else if (event.key === 'ArrowDown') bin -= far;
    else return;
    event.preventDefault();
    time = Math.min(axis.end, Math.max(axis.begin, time));
    bin = Math.min(model.mel_bins - 1, Math.max(0, bin));
    state.cursor = { time, bin };
    showCursor(time, bin, null, true);
  }

  // ---------------------------------------------------------------- player

  const sound = element('sound');
  /** Where playing one word ends. */
  let stopAt = Infinity;
  let moved = false;

  function showPlayhead() {
    if (!sound) return;
    const time = sound.currentTime;
    const inside = time >= axis.begin && time <= axis.end + 1e-3;
    element('playhead').hidden = !inside || !(moved || !sound.paused);
    element('playhead').style.left = `${xOf(Math.min(time, axis.end))}px`;
    const length = Number.isFinite(sound.duration) ? sound.duration : audio.seconds;
    element('clock').textContent = `${time.toFixed(2)} of ${length.toFixed(2)} s`;
  }

  function followSound() {
    if (sound.currentTime >= stopAt) {
      sound.pause();
      seek(stopAt);
    }
    showPlayhead();
    if (!sound.paused) requestAnimationFrame(followSound);
  }

  function seek(time) {
    if (!sound || !Number.isFinite(time)) return;
    const end = Number.isFinite(sound.duration) ? sound.duration : audio.seconds;
    sound.currentTime = Math.max(0, Math.min(time, end));
    stopAt = Infinity;
    moved = true;
    showPlayhead();
  }

  function play(end = Infinity) {
    stopAt = end;
    const begun = sound.play();
    if (begun) begun.catch(() => {});
  }

  function toggle() {
    if (!sound.paused) {
      sound.pause();
      return;
    }
    if (sound.ended) seek(0);
    play();
  }

  /** The word that is chosen, or that of the chosen token; only those with times. */
  const chosenWord = () => timed.find(isActive) || null;

  function buildPlayer() {
    if (!sound) return;
    element('player').hidden = false;
    element('player-note').textContent = sound.dataset.note;
    element('play').addEventListener('click', toggle);
    element('play-word').addEventListener('click', () => {
      const item = chosenWord();
      if (!item) return;
      seek(item.word.start_seconds);
      play(item.word.end_seconds);
    });
    for (const name of ['play', 'pause', 'ended', 'seeked', 'loadedmetadata']) {
      sound.addEventListener(name, () => {
        element('play').textContent = sound.paused ? 'Play' : 'Pause';
        if (name === 'play') { moved = true; requestAnimationFrame(followSound); }
        showPlayhead();
      });
    }
    const failed = () => {
      element('player-note').textContent = 'This browser cannot play the sound inside this page.';
      element('play').disabled = true;
      element('play-word').disabled = true;
    };
    sound.addEventListener('error', failed);
    if (sound.error) failed();
    for (const id of ['spectrogram', 'curves', 'matrix', 'axis', 'axis-below']) {
      element(id).addEventListener('click', (event) => {
        const time = timeAt(event.clientX - element(id).getBoundingClientRect().left);
        if (time >= axis.begin && time <= axis.end) seek(time);
      });
    }
    document.addEventListener('keydown', (event) => {
      if (event.key !== ' ' || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
      // What a button or a list does with the key stays; a token that is chosen
      // already does nothing.
      const own = event.target.closest('button, select, input, summary, a');
      const idle = own && own.closest('#tokens') && own.getAttribute('aria-pressed') === 'true';
      if (own && !idle) return;
      event.preventDefault();
      if (!event.repeat) toggle();
    });
  }

  // ------------------------------------------------------------------ page

  function option(list, value, text) {
    const node = make('option', '', text);
    node.value = value;
    list.append(node);
  }

  function buildControls() {
    maps.forEach((map, i) => option(element('map'), i, map.name));
    element('map').closest('label').hidden = maps.length === 0;
    if (attention) {
      const [layers, heads] = attention.shape;
      option(element('layer'), '', `mean of all ${layers}`);
      for (let i = 0; i < layers; i += 1) option(element('layer'), i, `${i + 1} of ${layers}`);
      option(element('head'), '', `mean of all ${heads}`);
      for (let i = 0; i < heads; i += 1) option(element('head'), i, `${i + 1} of ${heads}`);
    } else {
      element('layer').closest('label').hidden = true;
      element('head').closest('label').hidden = true;
      element('matrix-of').value = 'map';
      element('matrix-of').closest('label').hidden = true;
    }
    element('padding-label').hidden = !padded;
    for (const id of ['range', 'opacity', 'padding', 'matrix-of']) element(id).addEventListener('input', update);
    element('map').addEventListener('input', () => { state.map = maps[Number(element('map').value)]; update(); });
    for (const id of ['layer', 'head']) {
      element(id).addEventListener('input', () => {
        const value = element(id).value;
        state[id] = value === '' ? null : Number(value);
        update();
      });
    }
    follow('spectrogram', (y, height) => ({ bin: binAt(y, height) }));
    follow('curves', () => ({}));
    follow('matrix', (y) => ({ token: tokenAt(y) }));
    element('plots').addEventListener('pointerleave', () => { element('cursor').hidden = true; });
    element('spectrogram').addEventListener('keydown', moveCursor);
    element('spectrogram').addEventListener('blur', () => { element('cursor').hidden = true; });
    element('matrix').addEventListener('click', (event) => {
      select({ token: tokenAt(event.clientY - element('matrix').getBoundingClientRect().top) });
    });
    element('words-lane').addEventListener('click', (event) => {
      const box = element('words-lane').getBoundingClientRect();
      const time = timeAt(event.clientX - box.left);
      const lane = Math.floor((event.clientY - box.top) / laneHeight);
      const x = event.clientX - box.left;
      const under = (item) => item.from <= x && x <= item.reach;
      const hit = timed.find((item) => item.lane === lane && under(item))
        || timed.find((item) => item.word.start_seconds <= time && time <= item.word.end_seconds);
      if (!hit) return;
      select({ word: hit.index });
      seek(hit.word.start_seconds);
    });
  }

  function tableRow(cells, tag = 'td') {
    const line = make('tr');
    for (const [text, className] of cells) {
      const cell = make(tag, className || '', text);
      if (tag === 'th') cell.scope = 'col';
      line.append(cell);
    }
    return line;
  }

  function buildTables() {
    const head = make('thead');
    head.append(tableRow([['#'], ['token'], ['id'], ['log-probability'], ['attention peak'], ['word']], 'th'));
    const body = make('tbody');
    tokens.forEach((token, i) => {
      const word = words.find((item) => item.tokens.includes(i));
      let place = 'none';
      if (word) place = shown(word.text);
      else if (token.special) place = 'special token';
      body.append(tableRow([[String(i + 1), 'number'], [shown(token.text)], [String(token.id), 'number'],
        [fixed(token.log_probability, 3), 'number'], [seconds(token.peak_seconds), 'number'], [place]]));
    });
    element('table').append(head, body);

    const about = make('tbody');
    const fact = (name, text) => about.append(tableRow([[name], [text, 'wide']]));
    fact('model', `${model.name}${model.revision ? ` at commit ${model.revision}` : ''}, ${model.architecture}, ${model.decoder_layers} decoder layers of ${model.decoder_heads} heads`);
    const heard = page.samples === null ? `${model.frames} by ${model.mel_bins} mel bins, ${number(1000 * model.frame_seconds)} ms each`
      : `${page.samples} samples, shown by ${number(1000 * model.frame_seconds)} ms`;
    fact('frames', `${heard}; ${model.encoder_frames} encoder frames, ${number(1000 * model.encoder_frame_seconds)} ms each`);
    fact('arithmetic', `${explanation.precision} on ${explanation.device.name} (${explanation.device.executor}), seed ${explanation.seed}`);
    for (const info of explanation.maps) {
      const options = Object.entries(info.options).map(([key, value]) => `${key} ${typeof value === 'string' ? value : JSON.stringify(value)}`);
      fact(info.name, [`${info.method} at ${info.site}`, `shape ${info.shape.join(' \u00d7 ')}`, `reduction ${info.reduction}`, ...options].join('; '));
    }
    element('about').append(about);

    const remarks = [
      ...(explanation.words_from ? [`Times of words are read off ${explanation.words_from}; those of words with a question mark are unsure.`] : []),
      page.samples === null ? 'A map over time is its largest value over frequency in each frame.'
        : 'The model hears the samples; the spectrogram is for the eye. A map over time is the largest value of its samples, in either direction, in each frame.',
      'For the correlation (Pearson, this token) it is pooled onto the frames of the attention by their largest value.',
      'Triangles and the white marks in the matrix stand where the attention, averaged over all layers and heads, is highest; dashed lines bound the chosen word.',
      'Curves and the strips above them are each scaled to their own largest magnitude.',
      'The file beside this page, maps.safetensors, holds the exact values; those here are rounded to 1 in 65,000 (or 1 in 250 for large maps) of a token\u2019s range.',
    ];
    if (attention && attention.stride > 1) remarks.push(`To keep this file small, ${attention.stride} encoder frames of the attention are averaged into one.`);
    for (const text of page.omitted) remarks.push(text);
    element('remarks').append(...remarks.map((text) => make('li', '', text)));
  }

  let current = null;
  function update() {
    const width = element('plots').clientWidth;
    axis.left = width < 560 ? 62 : 84;
    axis.right = 10;
    axis.width = Math.max(20, width - axis.left - axis.right);
    axis.end = padded && !element('padding').checked ? audio.seconds : whole;
    current = view();
    markButtons(current);
    element('play-word').disabled = !chosenWord() || Boolean(sound && sound.error);
    const text = describe(current);
    if (element('selection').textContent !== text) element('selection').textContent = text;
    noteMap(current);
    drawLane();
    chooseHeights();
    drawSpectrogram(current);
    drawCurves(current);
    const source = drawMatrix();
    drawAxis('axis', !source);
    if (source) drawAxis('axis-below', true);
    drawLegend(current, source);
    element('cursor').hidden = true;
    showPlayhead();
  }

  followTheme(update);
  buildTokens();
  buildControls();
  buildTables();
  buildPlayer();
  element('main').hidden = false;
  update();
  followWidth(element('plots'), update);
  window.addEventListener('resize', update);
})();
