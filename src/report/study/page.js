(() => {
  const SVG = 'http://www.w3.org/2000/svg';

  // ------------------------------------------------------------------ rows

  // Models are names; directions, maps, statistics and parts of an attention
  // are objects, each the same one in all rows.
  const rows = [];
  for (const block of page.blocks) {
    const [model, direction, map] = [page.models, page.directions, page.maps].map((all, n) => all[block.of[n]]);
    const shape = page.shapes[block.shape];
    for (let i = 0; 2 * i < shape.length; i += 1) {
      const [mean, low, high] = block.values.slice(3 * i, 3 * i + 3).map(real);
      rows.push({
        model,
        direction,
        map,
        statistic: page.statistics[shape[2 * i]],
        attention: page.attentions[shape[2 * i + 1]],
        mean,
        low,
        high,
        count: typeof block.counts === 'number' ? block.counts : block.counts[i],
      });
    }
  }

  const unique = (values) => [...new Set(values)];
  const key = (...names) => JSON.stringify(names);

  /** One model in one direction; `index` counts as the markup does. */
  const subjects = [];
  for (const row of rows) {
    let subject = subjects.find((own) => own.model === row.model && own.direction === row.direction);
    if (!subject) {
      subject = { index: subjects.length, model: row.model, direction: row.direction, rows: [], ofMap: new Map() };
      subjects.push(subject);
    }
    subject.rows.push(row);
    if (!subject.ofMap.has(row.map)) subject.ofMap.set(row.map, []);
    subject.ofMap.get(row.map).push(row);
  }
  const named = (subject) => `${subject.model}, ${subject.direction.name}`;

  /** Names of maps that the page knows. */
  const INPUT = 'spes.input';
  const ENCODER = 'spes.encoder';
  const byName = (list, name) => list.find((own) => own.name === name);

  /** The row of attention over all heads and layers, weighted so, against a map. */
  const rho = (subject, map, kind, corrected, weighting) => (subject.ofMap.get(map) || []).find(({ statistic, attention: { view } }) => (
    statistic.correlation === kind && statistic.corrected === corrected && view && view.weighting === weighting && !view.layer && !view.head)) || null;
  /** The one row of a subject with a statistic that is there once. */
  const only = (subject, role) => subject.rows.find((row) => row.statistic.role === role) || null;
  /** The area under a curve of a map. */
  const areaOf = (subject, map, curve, measure) => subject.ofMap.get(map).find(({ statistic: own }) => (
    own.group === 'areas' && own.curve === curve && own.measure && own.measure.name === measure)) || null;

  /** Whether a figure by layers and heads can show a row: single heads are there too. */
  const hasHeads = new Set();
  const heads = ({ model, direction, map, statistic, attention }) => key(model, direction.name, map.name, statistic.name, attention.view.weighting);
  for (const row of rows) if (row.attention.view && row.attention.view.layer && row.attention.view.head) hasHeads.add(heads(row));

  // --------------------------------------------------------------- numbers

  /** Decimals at which the largest value has three digits; null where only powers of ten can say it. */
  function decimals(values) {
    const size = Math.max(0, ...values.filter(Number.isFinite).map(Math.abs));
    if (size === 0) return 1;
    if (size < 1e-3 || size >= 1e6) return null;
    return Math.min(5, Math.max(0, 2 - Math.floor(Math.log10(size))));
  }
  function number(value, digits) {
    if (!Number.isFinite(value)) return 'not finite';
    return minus(digits === null ? value.toExponential(2) : value.toFixed(digits));
  }
  /** Whether a row's interval is of too few utterances to be a 95% interval. */
  const few = (row) => row.count < page.enough;
  function brief(row) {
    const digits = decimals([row.mean, row.low, row.high]);
    return `${number(row.mean, digits)} [${number(row.low, digits)}, ${number(row.high, digits)}]${few(row) ? ' too few' : ''}`;
  }
  const exact = (value) => (Number.isFinite(value) ? minus(String(Number(value.toPrecision(5)))) : 'not finite');
  const utterances = (count) => `${count} utterance${count === 1 ? '' : 's'}`;
  const inFull = (row) => `${exact(row.mean)} [${exact(row.low)}, ${exact(row.high)}], ${utterances(row.count)}${few(row) ? ', too few for a 95% interval' : ''}`;

  // ---------------------------------------------------------------- making

  function make(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) write(made, text);
    return made;
  }

  /** Text in which `SM^X` becomes a superscript. */
  function write(into, text) {
    const pieces = text.split(/SM\^([XH])/);
    pieces.forEach((piece, n) => {
      if (n % 2 === 0) into.append(piece);
      else if (into.namespaceURI === SVG) into.append('SM', draw('tspan', { dy: -4, 'font-size': 9 }, piece), draw('tspan', { dy: 4 }, '\u200b'));
      else into.append('SM', make('sup', '', piece));
    });
  }

  function draw(tag, attributes, text) {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, typeof value === 'number' ? String(Math.round(value * 100) / 100) : value);
    if (text !== undefined) write(made, text);
    return made;
  }

  let serial = 0;
  /** An SVG with title and description, as wide as its holder. */
  function picture(width, height, title, description) {
    serial += 1;
    const ids = [`title-${serial}`, `description-${serial}`];
    const svg = draw('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', tabindex: '0', 'aria-labelledby': ids[0], 'aria-describedby': ids[1] });
    const heading = draw('title', { id: ids[0] });
    heading.textContent = title;
    const about = draw('desc', { id: ids[1] });
    about.textContent = description;
    svg.append(heading, about);
    return svg;
  }
  /** Browsers show an SVG's title over all of it; the readout says more. */
  const untitled = (svg) => {
    const heading = svg.querySelector('title');
    svg.removeAttribute('aria-labelledby');
    svg.setAttribute('aria-label', heading.textContent);
    heading.remove();
  };

  /** About `count` round values from `low` to `high`, both inside the first and last. */
  function ticks(low, high, count) {
    const rough = (high - low) / count || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map((n) => n * power).find((n) => n >= rough * 0.999);
    const first = Math.floor(low / step + 1e-9);
    const last = Math.ceil(high / step - 1e-9);
    const digits = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9) + (step / power === 2.5 ? 1 : 0));
    return Array.from({ length: last - first + 1 }, (_, n) => {
      const value = (first + n) * step;
      return { value, text: digits > 6 ? minus(value.toExponential(1)) : number(value, digits).replace(/^\u2212(0\.?0*)$/, '$1') };
    });
  }

  const shortened = (text, letters) => {
    const shown = text.replace(/SM\^/g, 'SM');
    if (shown.length <= letters) return text;
    // Directions stand at the end.
    const end = letters > 16 ? 7 : 0;
    return `${text.slice(0, Math.max(1, letters - 1 - end))}\u2026${end ? text.slice(-end) : ''}`;
  };

  // Attention and saliency keep the colours they have on an explanation's page.
  const KNOWN = ['attention', 'spes.input', 'spes.encoder', 'spes.input, pooled', 'gradient.encoder', 'gradient.input', 'attention-norm', 'random'];
  const DASHES = ['', '7 3', '2 3', '9 3 2 3'];
  const names = page.maps.map((map) => map.name).filter((name) => name !== '');
  const others = names.filter((map) => !KNOWN.includes(map));
  function style(map) {
    const own = KNOWN.indexOf(map.name);
    const place = own < 0 ? KNOWN.length + Math.max(0, others.indexOf(map.name)) : own;
    return { colour: `var(--c${place % 8})`, dash: DASHES[Math.floor(place / 8) % 4] || (own >= 4 && own < 7 ? '7 3' : own === 7 ? '2 3' : '') };
  }
  function sample(map) {
    const { colour, dash } = style(map);
    const svg = draw('svg', { viewBox: '0 0 34 12', 'aria-hidden': 'true' });
    svg.append(draw('line', { x1: 1, x2: 33, y1: 6, y2: 6, stroke: colour, 'stroke-width': 2.5, 'stroke-dasharray': dash }));
    return svg;
  }

  function fillSelect(select, options, wanted) {
    const before = wanted === undefined ? select.value : wanted;
    const list = options.map((option) => (typeof option === 'string' ? { value: option, text: option } : option));
    const same = select.options.length === list.length && list.every((option, n) => select.options[n].value === option.value && select.options[n].text === option.text);
    if (!same) {
      select.replaceChildren(...list.map((option) => {
        const made = document.createElement('option');
        made.value = option.value;
        made.textContent = option.text;
        return made;
      }));
    }
    const kept = list.find((option) => option.value === before);
    select.value = kept ? before : (list[0] || { value: '' }).value;
    select.disabled = list.length < 2;
  }
  const mapOptions = (maps) => maps.map(({ name }) => ({ value: name, text: name === '' ? '(no map)' : name }));
  const weightingOptions = (weightings) => weightings.map((name) => ({ value: name, text: name || 'as it is' }));

  // ------------------------------------------------------- dots, intervals

  /**
   * Means as dots and intervals as lines, one lane each. A lane has `group`,
   * `label`, `row`, and perhaps a second row `hollow`, a `band` {low, high}
   * and the `map` that colours it.
   */
  function dots(figure, title, lanes, remarks = []) {
    figure.hidden = lanes.length === 0;
    if (figure.hidden) return;
    const text = make('figcaption', '', title);
    const legend = make('p', 'key');
    const readout = make('p', 'readout', figure.classList.contains('broad') ? 'Point at a dot, or focus a figure and use the arrow keys, to read its values.' : '');
    readout.setAttribute('role', 'status');
    figure.replaceChildren(text, legend, readout);
    const width = Math.max(240, Math.round(figure.clientWidth - 24));

    const groups = unique(lanes.map((lane) => lane.group));
    const aside = width >= 460 ? 158 : 0;
    // One lane each: the groups are the labels, above the lanes where there is no place beside them.
    const single = groups.length === lanes.length && groups.length > 1;
    const wide = (texts) => 12 + 7 * Math.max(...texts.map((one) => one.replace(/\^/g, '').length));
    const flat = groups.length === 1 || (single && (aside > 0 || wide(groups) <= 0.4 * width));
    const label = (lane) => (single && flat ? lane.group : lane.label);
    const left = Math.min(0.38 * width, wide(lanes.map(label)));
    const right = aside || 14;

    const values = lanes.flatMap((lane) => [lane.row, lane.hollow].filter(Boolean).flatMap((row) => [row.mean, row.low, row.high]));
    const bands = lanes.flatMap((lane) => (lane.band ? [lane.band.low, lane.band.high] : []));
    const all = [0, ...values, ...bands].filter(Number.isFinite);
    const marks = ticks(Math.min(...all), Math.max(...all), Math.max(2, Math.min(8, (width - left - right) / 60)));
    const from = marks[0].value;
    const to = marks[marks.length - 1].value;
    const across = (value) => left + ((value - from) / (to - from || 1)) * (width - left - right);

    const places = [];
    let y = 4;
    let before = null;
    for (const lane of lanes) {
      if (!flat && lane.group !== before) {
        places.push({ heading: lane.group, y });
        y += 20;
      }
      before = lane.group;
      const height = lane.hollow ? 30 : 22;
      places.push({ lane, y, height });
      y += height;
    }
    const bottom = y + 2;
    const summary = `${lanes.length} values from ${exact(Math.min(...values.filter(Number.isFinite)))} to ${exact(Math.max(...values.filter(Number.isFinite)))}; the arrow keys read them one by one.`;
    const svg = picture(width, bottom + 20, title, summary);
    untitled(svg);
    const here = draw('rect', { class: 'here', x: 0, width, height: 0, visibility: 'hidden' });
    svg.append(here);
    for (const place of places) {
      if (place.lane && place.lane.band) {
        const { low, high } = place.lane.band;
        svg.append(draw('rect', { class: 'band', x: across(low), width: across(high) - across(low), y: place.y, height: place.height }));
      }
    }
    for (const { value, text: name } of marks) {
      const x = across(value);
      const lines = places.filter((place) => place.lane).map((place) => `M${x.toFixed(1)} ${place.y - 2}v${place.height + 4}`);
      svg.append(draw('path', { class: Math.abs(value) < 1e-12 ? 'zero' : 'grid', d: lines.join('') }));
      svg.append(draw('text', { class: 'faint', x, y: bottom + 14, 'text-anchor': 'middle' }, name));
    }
    const points = [];
    for (const place of places) {
      if (place.heading !== undefined) {
        svg.append(draw('text', { class: 'strong', x: 0, y: place.y + 14 }, shortened(place.heading, Math.floor(width / 7.8))));
        continue;
      }
      const { lane } = place;
      const paint = lane.map === undefined ? 'var(--accent)' : style(lane.map).colour;
      svg.append(draw('text', { x: left - 8, y: place.y + 15, 'text-anchor': 'end' }, shortened(label(lane), Math.floor((left - 8) / 6.9))));
      if (aside) svg.append(draw('text', { x: width, y: place.y + 15, 'text-anchor': 'end' }, brief(lane.row)));
      for (const [row, filled] of [[lane.row, true], [lane.hollow, false]]) {
        if (!row) continue;
        const middle = place.y + (filled ? 11 : 22);
        if (Number.isFinite(row.low) && Number.isFinite(row.high)) {
          svg.append(draw('line', { x1: across(row.low), x2: across(row.high), y1: middle, y2: middle, stroke: paint, 'stroke-width': filled ? 3 : 1.5, 'stroke-linecap': 'round', opacity: filled ? 0.55 : 0.8, ...(few(row) ? { 'stroke-dasharray': '1 5' } : {}) }));
        }
        if (Number.isFinite(row.mean)) {
          svg.append(draw('circle', { cx: across(row.mean), cy: middle, r: filled ? 5 : 4, fill: filled ? paint : 'var(--panel)', stroke: paint, 'stroke-width': filled ? 0 : 1.8 }));
        }
        points.push({ lane, row, filled, place, y: middle });
      }
    }
    text.after(svg);

    const sign = (filled) => {
      const icon = draw('svg', { viewBox: '0 0 30 12', 'aria-hidden': 'true' });
      icon.append(draw('line', { x1: 2, x2: 28, y1: 6, y2: 6, stroke: 'currentColor', 'stroke-width': filled ? 3 : 1.5, opacity: 0.55 }));
      icon.append(draw('circle', { cx: 15, cy: 6, r: 4, fill: filled ? 'currentColor' : 'var(--panel)', stroke: 'currentColor', 'stroke-width': 1.6 }));
      return icon;
    };
    const entry = (icon, words) => {
      const made = make('span');
      if (icon) made.append(icon);
      write(made, words);
      return made;
    };
    const hollow = lanes.some((lane) => lane.hollow);
    legend.append(entry(sign(true), hollow ? 'measured, with its 95% interval' : 'mean with its 95% interval'));
    if (lanes.some((lane) => few(lane.row))) legend.append(entry(null, 'dotted: of too few utterances for a 95% interval'));
    if (hollow) legend.append(entry(sign(false), 'corrected for the map\u2019s reliability'));
    const banded = lanes.find((lane) => lane.band);
    if (banded) {
      const icon = draw('svg', { viewBox: '0 0 30 12', 'aria-hidden': 'true' });
      icon.append(draw('rect', { class: 'band', x: 2, y: 0, width: 26, height: 12 }));
      legend.append(entry(icon, `the paper\u2019s range, ${banded.band.low} to ${banded.band.high}${banded.band.of || ''}`));
    }
    for (const remark of remarks) legend.append(entry(null, remark));

    let chosen = -1;
    function choose(n) {
      chosen = Math.max(0, Math.min(points.length - 1, n));
      const { lane, row, filled, place } = points[chosen];
      here.setAttribute('y', place.y);
      here.setAttribute('height', place.height);
      here.setAttribute('visibility', 'visible');
      const what = unique([lane.group, lane.label].filter(Boolean)).join(', ');
      readout.replaceChildren();
      write(readout, `${what}${filled ? '' : ', corrected'}: ${inFull(row)}`);
    }
    svg.addEventListener('pointermove', (event) => {
      const y0 = ((event.clientY - svg.getBoundingClientRect().top) * (bottom + 20)) / svg.getBoundingClientRect().height;
      let best = 0;
      points.forEach((point, n) => { if (Math.abs(point.y - y0) < Math.abs(points[best].y - y0)) best = n; });
      if (best !== chosen) choose(best);
    });
    svg.addEventListener('keydown', (event) => {
      const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
      if (event.key === 'Home') choose(0);
      else if (event.key === 'End') choose(points.length - 1);
      else if (step) choose(chosen < 0 ? 0 : chosen + step);
      else return;
      event.preventDefault();
    });
  }

  // ---------------------------------------------------------------- models

  const rhoRows = rows.filter(({ statistic, attention: { view } }) => statistic.correlation && view && !view.layer && !view.head);
  const kinds = unique(rhoRows.map((row) => row.statistic.correlation));

  function drawModels() {
    const kind = element('rho-kind').value;
    const weighting = element('rho-weighting').value;
    const spes = [INPUT, ENCODER].map((name) => byName(page.maps, name)).filter(Boolean);
    const maps = element('rho-maps').value === 'spes' ? spes : unique([...spes, ...rhoRows.map((row) => row.map)]);
    const lanes = [];
    for (const subject of subjects) {
      for (const map of maps) {
        const row = rho(subject, map, kind, false, weighting);
        if (!row) continue;
        lanes.push({
          group: named(subject),
          label: map.title,
          map,
          row,
          hollow: rho(subject, map, kind, true, weighting),
          band: map.name === INPUT && kind === 'pearson' && weighting === '' ? { ...page.paper.rho, of: ` for ${map.title}` } : null,
        });
      }
    }
    const weighted = weighting ? `${weighting} ` : '';
    dots(element('rho-figure'), `Correlation of ${weighted}attention, all heads and layers, with saliency (${kind})`, lanes);

    const single = (id, title, role, band) => {
      const own = subjects.map((subject) => ({ group: named(subject), label: '', row: only(subject, role), band }));
      dots(element(id), title, own.filter((lane) => lane.row));
    };
    single('gap-figure', 'Gap: what mixing in the encoder takes away', 'gap', page.paper.gap);
    single('coverage-figure', 'Coverage, %', 'coverage', page.paper.coverage);
    single('wer-figure', 'Word error rate, %', 'word-errors');
    single('bleu-figure', 'BLEU', 'bleu');
  }

  function beginModels() {
    fillSelect(element('rho-kind'), kinds);
    fillSelect(element('rho-weighting'), weightingOptions(unique(rhoRows.map((row) => row.attention.view.weighting))));
    for (const id of ['rho-kind', 'rho-weighting', 'rho-maps']) element(id).addEventListener('input', drawModels);
  }

  // ------------------------------------------------------ heads and layers

  let subject = subjects[0] || null;

  const colour = (name) => {
    const text = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    return [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
  };
  function luminance(rgb) {
    const [r, g, b] = rgb.map((x) => (x / 255 <= 0.04045 ? x / 255 / 12.92 : ((x / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }
  /** The colour for a share from -1 to 1, and black or white to write on it. */
  function shade(share) {
    const from = colour('--panel');
    const to = colour(share < 0 ? '--cold' : '--hot');
    const amount = Math.min(1, Math.abs(share));
    const rgb = from.map((x, n) => Math.round(x + amount * (to[n] - x)));
    // Either has a contrast of 4.5 at least.
    return { paper: `rgb(${rgb.join(', ')})`, ink: luminance(rgb) > 0.179 ? '#000000' : '#ffffff' };
  }

  function drawHeat() {
    const table = element('heat');
    const own = subject ? subject.rows.filter((row) => row.attention.view && hasHeads.has(heads(row))) : [];
    const first = element('heat-map').options.length === 0;
    const maps = unique(own.map((row) => row.map));
    fillSelect(element('heat-map'), mapOptions(maps), first && byName(maps, ENCODER) ? ENCODER : undefined);
    const map = byName(maps, element('heat-map').value);
    const ofMap = own.filter((row) => row.map === map);
    const statistics = unique(ofMap.map((row) => row.statistic));
    fillSelect(element('heat-statistic'), statistics.map(({ name }) => name), first ? 'pearson' : undefined);
    const statistic = byName(statistics, element('heat-statistic').value);
    const ofStatistic = ofMap.filter((row) => row.statistic === statistic);
    fillSelect(element('heat-weighting'), weightingOptions(unique(ofStatistic.map((row) => row.attention.view.weighting))));
    const weighting = element('heat-weighting').value;
    const shown = ofStatistic.filter((row) => row.attention.view.weighting === weighting);
    table.replaceChildren();
    element('heat-scroll').hidden = shown.length === 0;
    element('heat-legend').replaceChildren();
    if (shown.length === 0) {
      element('heat-summary').textContent = 'There are no rows of single heads.';
      return;
    }
    const at = (layer, head) => shown.find(({ attention: { view } }) => view.layer === layer && view.head === head) || null;
    const layers = Math.max(...shown.map((row) => row.attention.view.layer));
    const count = Math.max(...shown.map((row) => row.attention.view.head));
    const reach = Math.max(1e-12, ...shown.map((row) => Math.abs(row.mean)).filter(Number.isFinite));
    const digits = Math.min(2, decimals([reach]) === null ? 2 : decimals([reach]));
    const cells = [];
    const intervals = element('heat-intervals').checked;

    const weighted = weighting ? `${weighting} ` : '';
    element('heat-caption').replaceChildren();
    write(element('heat-caption'), `${statistic.title}: ${weighted}attention against ${map.title}, ${named(subject)}`);
    const heading = make('tr');
    heading.append(make('td'));
    const column = (text, className) => {
      const made = make('th', className, text);
      made.scope = 'col';
      heading.append(made);
    };
    for (let h = 1; h <= count; h += 1) column(count > 9 ? String(h) : `head ${h}`);
    column('mean of heads', 'margin');
    const head = make('thead');
    head.append(heading);
    const body = make('tbody');
    const foot = make('tfoot');
    for (let l = 1; l <= layers + 1; l += 1) {
      const layer = l <= layers ? l : 0;
      const line = make('tr');
      const name = make('th', '', layer ? `layer ${layer}` : 'mean of layers');
      name.scope = 'row';
      line.append(name);
      const across = [];
      for (let h = 1; h <= count + 1; h += 1) {
        const place = h <= count ? h : 0;
        const row = at(layer, place);
        const cell = make('td', place ? '' : 'margin', row ? number(row.mean, digits) : '\u2013');
        if (row) {
          const { paper, ink } = shade(Number.isFinite(row.mean) ? row.mean / reach : 0);
          cell.style.backgroundColor = paper;
          cell.style.color = ink;
          if (intervals) cell.append(make('small', few(row) ? 'few' : '', `[${number(row.low, digits)}, ${number(row.high, digits)}]`));
          cell.dataset.attention = row.attention.name;
        }
        cell.tabIndex = -1;
        const tell = () => {
          const text = row ? `${row.attention.name}: ${inFull(row)}` : 'not defined';
          if (element('heat-readout').textContent !== text) element('heat-readout').textContent = text;
        };
        cell.addEventListener('pointerenter', tell);
        cell.addEventListener('focus', () => {
          for (const other of cells.flat()) other.tabIndex = -1;
          cell.tabIndex = 0;
          tell();
        });
        across.push(cell);
        line.append(cell);
      }
      cells.push(across);
      (layer ? body : foot).append(line);
    }
    table.append(head, body, foot);
    cells[0][0].tabIndex = 0;
    table.onkeydown = (event) => {
      const move = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      const y = cells.findIndex((line) => line.includes(event.target));
      if (!move || y < 0) return;
      const next = (cells[y + move[0]] || [])[cells[y].indexOf(event.target) + move[1]];
      if (next) next.focus();
      event.preventDefault();
    };

    const best = (list) => list.filter((row) => Number.isFinite(row.mean)).reduce((a, b) => (a && a.mean >= b.mean ? a : b), null);
    const parts = [
      ['all heads and layers', at(0, 0)],
      ['highest layer', best(shown.filter(({ attention: { view } }) => view.layer && !view.head)), true],
      ['highest head number over layers', best(shown.filter(({ attention: { view } }) => !view.layer && view.head)), true],
      ['highest single head', best(shown.filter(({ attention: { view } }) => view.layer && view.head)), true],
    ];
    const said = parts.filter(([, row]) => row).map(([name, row, which]) => `${name}${which ? ` (${row.attention.view.name})` : ''} ${brief(row)}`);
    element('heat-summary').textContent = `${said.join('; ')}.`.replace(/^a/, 'A');

    const negative = shown.some((row) => row.mean < 0);
    const bar = make('i');
    bar.style.background = `linear-gradient(to right, ${negative ? 'var(--cold), ' : ''}var(--panel), var(--hot))`;
    element('heat-legend').append(...[negative ? number(-reach, 3) : '0', bar, number(reach, decimals([reach]))]);
    if (negative) element('heat-legend').append('; 0 has no colour');
  }

  // ---------------------------------------------------------------- curves

  const isPoint = (row) => row.statistic.group === 'curves';
  const percentOf = (row) => row.statistic.percent;

  function beginCurves() {
    for (const name of unique(rows.filter(isPoint).map((row) => row.statistic.curve))) {
      const figure = make('figure');
      figure.dataset.curve = name;
      element('curve-panels').append(figure);
    }
    element('curve-measure').addEventListener('input', drawCurves);
  }

  /** Translations count by BLEU, transcripts by words. */
  function usualMeasure(measures) {
    const wanted = byName(measures, subject.direction.translates ? 'bleu' : 'word error rate');
    return (wanted || measures[0]).name;
  }

  let measureOf = null;
  function drawCurves() {
    const own = subject ? subject.rows.filter(isPoint) : [];
    const measures = [];
    for (const { statistic: { measure } } of own) if (!byName(measures, measure.name)) measures.push(measure);
    const select = element('curve-measure');
    const wanted = measureOf === subject || measures.length === 0 ? undefined : usualMeasure(measures);
    measureOf = subject;
    fillSelect(select, measures.map(({ name, title }) => ({ value: name, text: title })), wanted);
    const measure = byName(measures, select.value);
    const shown = own.filter((row) => row.statistic.measure.name === select.value);
    const top = Math.max(1e-9, ...shown.map((row) => row.high).filter(Number.isFinite));
    for (const figure of element('curve-panels').children) {
      const curve = figure.dataset.curve;
      drawCurve(figure, curve, shown.filter((row) => row.statistic.curve === curve), top, measure);
    }
    for (const box of document.querySelectorAll('.areas')) box.hidden = Boolean(subject) && Number(box.dataset.subject) !== subject.index;
  }

  function drawCurve(figure, curve, own, top, measure) {
    figure.hidden = own.length === 0;
    if (figure.hidden) return;
    const title = `${curve.replace(/^./, (letter) => letter.toUpperCase())}: ${measure.title} by percent of features`;
    const text = make('figcaption', '', title);
    figure.replaceChildren(text);
    const width = Math.max(240, Math.round(figure.clientWidth - 24));
    const height = Math.round(Math.max(240, Math.min(360, 0.62 * width)));
    const lines = unique(own.map((row) => row.map)).map((map) => {
      const points = own.filter((row) => row.map === map).sort((a, b) => percentOf(a) - percentOf(b));
      return { map, points, area: areaOf(subject, map, curve, measure.name) };
    });
    lines.sort((a, b) => (b.area ? b.area.mean : 0) - (a.area ? a.area.mean : 0));

    const marks = ticks(0, top, 5);
    const highest = marks[marks.length - 1].value;
    const left = 38;
    const [right, above, below] = [10, 8, 22];
    const x = (percent) => left + (percent / 100) * (width - left - right);
    const y = (value) => height - below - (value / highest) * (height - above - below);
    const svg = picture(width, height, title, `One line for each of ${lines.length} maps. The left and right arrow keys choose a percentage, up and down a map; the table below has the values.`);
    untitled(svg);
    for (const { value, text: name } of marks) {
      svg.append(draw('line', { class: value === 0 ? 'zero' : 'grid', x1: left, x2: width - right, y1: y(value), y2: y(value) }));
      svg.append(draw('text', { class: 'faint', x: left - 6, y: y(value) + 4, 'text-anchor': 'end' }, name));
    }
    for (const percent of [0, 20, 40, 60, 80, 100]) {
      svg.append(draw('text', { class: 'faint', x: x(percent), y: height - 6, 'text-anchor': percent === 100 ? 'end' : 'middle' }, percent === 100 ? '100%' : String(percent)));
    }
    const cursor = draw('line', { class: 'zero', y1: above, y2: height - below, 'stroke-dasharray': '3 3' });
    svg.append(cursor);
    const solid = (line) => line.points.filter((row) => Number.isFinite(row.mean));
    for (const line of lines) {
      const points = solid(line).filter((row) => Number.isFinite(row.low) && Number.isFinite(row.high));
      const edge = [...points.map((row) => [percentOf(row), row.high]), ...points.reverse().map((row) => [percentOf(row), row.low])];
      line.band = draw('polygon', { points: edge.map(([p, v]) => `${x(p).toFixed(1)},${y(v).toFixed(1)}`).join(' '), fill: style(line.map).colour, opacity: 0.09 });
      svg.append(line.band);
    }
    for (const line of lines) {
      const { colour: stroke, dash } = style(line.map);
      line.path = draw('polyline', { points: solid(line).map((row) => `${x(percentOf(row)).toFixed(1)},${y(row.mean).toFixed(1)}`).join(' '), fill: 'none', stroke, 'stroke-width': 2, 'stroke-dasharray': dash, 'stroke-linejoin': 'round' });
      svg.append(line.path);
    }
    label(svg, lines, { x, y, left, right: width - right, above, below: height - below });
    text.after(svg);

    // Values at the cursor; the table is the legend too.
    const table = make('table');
    serial += 1;
    const caption = make('p', 'caption');
    caption.id = `caption-${serial}`;
    table.setAttribute('aria-labelledby', caption.id);
    const head = make('thead');
    const heading = make('tr');
    const valueHead = make('th');
    for (const [cell, name] of [[make('td')], [make('th'), 'Map'], [valueHead, ''], [make('th'), 'Area']]) {
      if (name !== undefined) {
        cell.textContent = name;
        cell.scope = 'col';
      }
      heading.append(cell);
    }
    head.append(heading);
    const body = make('tbody');
    for (const line of lines) {
      const row = make('tr');
      const swatch = make('td', 'swatch');
      swatch.append(sample(line.map));
      const name = make('th', '', line.map.title);
      name.scope = 'row';
      line.cell = make('td', 'value');
      line.entry = row;
      row.append(swatch, name, line.cell, make('td', 'value', line.area ? brief(line.area) : '\u2013'));
      row.addEventListener('pointerenter', () => highlight(line));
      row.addEventListener('pointerleave', () => highlight(null));
      body.append(row);
    }
    table.append(head, body);
    const scroll = make('div', 'scroll');
    scroll.append(table);
    figure.append(caption, scroll);

    const percents = unique(own.map(percentOf)).sort((a, b) => a - b);
    let chosen = percents.indexOf(50) < 0 ? Math.floor(percents.length / 2) : percents.indexOf(50);
    let bright = null;
    function highlight(line) {
      bright = line;
      for (const other of lines) {
        const on = other === line;
        other.path.setAttribute('stroke-width', on ? '4' : '2');
        other.path.setAttribute('opacity', line && !on ? '.35' : '1');
        other.band.setAttribute('opacity', on ? '.25' : line ? '.03' : '.09');
        other.entry.classList.toggle('chosen', on);
      }
    }
    function choose(n) {
      chosen = Math.max(0, Math.min(percents.length - 1, n));
      const percent = percents[chosen];
      cursor.setAttribute('x1', x(percent));
      cursor.setAttribute('x2', x(percent));
      valueHead.textContent = `At ${percent}%`;
      const counts = unique(own.map((row) => row.count));
      caption.textContent = `Values at the dashed line, ${percent}%, and areas, ${counts.length === 1 ? utterances(counts[0]) : 'utterances differ'}`;
      for (const line of lines) {
        const row = line.points.find((point) => percentOf(point) === percent);
        line.cell.textContent = row ? `${brief(row)}${counts.length > 1 ? ` of ${row.count}` : ''}` : '\u2013';
      }
    }
    choose(chosen);
    svg.addEventListener('pointermove', (event) => {
      const box = svg.getBoundingClientRect();
      const percent = ((((event.clientX - box.left) * width) / box.width - left) / (width - left - right)) * 100;
      let best = 0;
      percents.forEach((value, n) => { if (Math.abs(value - percent) < Math.abs(percents[best] - percent)) best = n; });
      choose(best);
    });
    svg.addEventListener('keydown', (event) => {
      const place = lines.indexOf(bright);
      if (event.key === 'ArrowLeft') choose(chosen - 1);
      else if (event.key === 'ArrowRight') choose(chosen + 1);
      else if (event.key === 'Home') choose(0);
      else if (event.key === 'End') choose(percents.length - 1);
      else if (event.key === 'ArrowDown') highlight(lines[Math.min(lines.length - 1, place + 1)]);
      else if (event.key === 'ArrowUp') highlight(place > 0 ? lines[place - 1] : null);
      else return;
      event.preventDefault();
    });
  }

  /** Writes each line's name where it is farthest from the other lines. */
  function label(svg, lines, box) {
    const taken = [];
    for (const line of lines) {
      const text = line.map.title;
      const size = 6.8 * text.replace('^', '').length + 4;
      let best = null;
      for (const row of line.points) {
        if (!Number.isFinite(row.mean)) continue;
        const percent = percentOf(row);
        for (const shift of [-7, 15]) {
          const [cx, cy] = [box.x(percent), box.y(row.mean) + shift];
          const area = { left: cx - size / 2, right: cx + size / 2, top: cy - 11, bottom: cy + 3 };
          if (area.left < box.left + 2 || area.right > box.right || area.top < box.above - 4 || area.bottom > box.below) continue;
          let cost = Math.abs(percent - 50) / 400;
          for (const other of taken) {
            if (area.left < other.right && area.right > other.left && area.top < other.bottom && area.bottom > other.top) cost += 10;
          }
          // Lines that run through the name, its own counts less.
          for (const other of lines) {
            let crossed = 0;
            for (let n = 1; n < other.points.length; n += 1) {
              const [a, b] = [other.points[n - 1], other.points[n]];
              for (let t = 0; t < 1; t += 0.25) {
                const px = box.x(percentOf(a) + t * (percentOf(b) - percentOf(a)));
                const py = box.y(a.mean + t * (b.mean - a.mean));
                if (px > area.left && px < area.right && py > area.top && py < area.bottom) crossed += 1;
              }
            }
            cost += crossed * (other === line ? 0.3 : 0.8);
          }
          const near = Math.min(99, ...lines.filter((other) => other !== line).map((other) => {
            const same = other.points.find((point) => percentOf(point) === percent);
            return same ? Math.abs(box.y(same.mean) - box.y(row.mean)) : 99;
          }));
          cost += Math.max(0, 24 - near) / 12;
          if (!best || cost < best.cost) best = { cost, cx, cy, area };
        }
      }
      // With nowhere to go the table below has to do.
      if (!best || best.cost >= 8) continue;
      taken.push(best.area);
      const made = draw('text', { class: 'halo', x: best.cx, y: best.cy, 'text-anchor': 'middle' }, text);
      made.style.fill = style(line.map).colour;
      svg.append(made);
    }
  }

  // ----------------------------------------------------------------- times

  const isTime = (row) => row.statistic.group === 'times';
  const timeRows = rows.filter(isTime);
  /** What a row is of: a map, a part of an attention, or both. */
  const source = (row) => [row.map.title, row.attention.name].filter((name) => name !== '').join(', ') || row.statistic.name;
  /** What colours a lane: its map, or whatever else it is of. */
  const paintOf = (row) => (row.map.name ? row.map : row.attention);
  const MOST = 40;

  /** Lanes for rows of one statistic; single heads give way where there are many. */
  function lanesOf(list) {
    const single = (row) => row.attention.view && row.attention.view.head;
    const some = list.length > MOST ? list.filter((row) => !single(row)) : list;
    const left = (some.length ? some : list).slice(0, MOST);
    return { lanes: left, more: list.length - left.length };
  }

  function beginTimes() {
    element('times').hidden = timeRows.length === 0;
    element('to-times').hidden = timeRows.length === 0;
    for (const statistic of unique(timeRows.map((row) => row.statistic))) {
      const figure = make('figure');
      figure.dataset.statistic = statistic.name;
      element('time-panels').append(figure);
    }
  }

  function drawTimes() {
    for (const figure of element('time-panels').children) {
      const statistic = byName(page.statistics, figure.dataset.statistic);
      const own = subject.rows.filter((row) => row.statistic === statistic);
      const { lanes, more } = lanesOf(own);
      const remarks = more ? [`${more} more in the table of all rows`] : [];
      dots(figure, statistic.title, lanes.map((row) => ({ group: named(subject), label: source(row), map: paintOf(row), row })), remarks);
    }
  }

  // ------------------------------------------------------------------ rows

  const GROUPS = { '': 'all rows', other: 'not in a figure above', models: 'models', heads: 'heads and layers', areas: 'areas', curves: 'points of curves', times: 'times and places' };
  const PAGE_OF_ROWS = 50;
  let limit = PAGE_OF_ROWS;

  /** What the lists above the table choose by. */
  const CHOSEN = {
    group: (row) => row.statistic.group,
    model: (row) => row.model,
    direction: (row) => row.direction.name,
    map: (row) => row.map.name,
    statistic: (row) => row.statistic.name,
  };
  const namesOf = (row) => [row.model, row.direction.name, row.map.name, row.statistic.name, row.attention.name];

  function drawRows() {
    const chosen = Object.fromEntries(Object.keys(CHOSEN).map((name) => [name, element(`row-${name}`)]));
    let list = rows;
    // Each list offers what the ones before it leave.
    for (const [name, of] of Object.entries(CHOSEN)) {
      const values = unique(list.map(of));
      const first = chosen[name].options.length === 0;
      let options = values.map((value) => ({ value: `=${value}`, text: value === '' ? '(none)' : value }));
      if (name === 'group') options = Object.keys(GROUPS).filter((own) => own && values.includes(own)).map((own) => ({ value: `=${own}`, text: GROUPS[own] }));
      options.unshift({ value: '', text: name === 'group' ? GROUPS[''] : 'all' });
      fillSelect(chosen[name], options, first && name === 'group' && values.includes('other') ? '=other' : undefined);
      chosen[name].disabled = options.length < 3;
      if (chosen[name].value) list = list.filter((row) => `=${of(row)}` === chosen[name].value);
    }
    const words = element('row-text').value.toLowerCase().split(/\s+/).filter(Boolean);
    if (words.length) {
      list = list.filter((row) => {
        const text = namesOf(row).join(' ').toLowerCase();
        return words.every((word) => text.includes(word));
      });
    }
    const shown = list.slice(0, limit);
    element('row-count').textContent = list.length === 0 ? 'No row fits.' : `${shown.length} of ${list.length} rows that fit, of ${rows.length} in all.`;
    const table = element('row-table');
    const line = (cells, tag) => {
      const made = make('tr');
      cells.forEach((text, n) => {
        const cell = document.createElement(tag);
        cell.textContent = text;
        if (n >= 5) cell.className = 'number';
        if (tag === 'th') cell.scope = 'col';
        else cell.dir = 'auto';
        made.append(cell);
      });
      return made;
    };
    const head = make('thead');
    head.append(line(['Model', 'Direction', 'Map', 'Statistic', 'Attention', 'Mean', 'Low', 'High', 'Utterances', 'Interval'], 'th'));
    const body = make('tbody');
    body.append(...shown.map((row) => line([...namesOf(row), exact(row.mean), exact(row.low), exact(row.high), String(row.count), few(row) ? 'too few utterances' : '95%'], 'td')));
    table.replaceChildren(head, body);
    element('row-more').hidden = shown.length === list.length;

    // Rows of one statistic are a figure too.
    const statistics = unique(list.map((row) => row.statistic));
    const several = unique(list.map((row) => key(row.model, row.direction.name))).length > 1;
    const { lanes, more } = lanesOf(list);
    const remarks = more ? [`${more} more in the table`] : [];
    const fits = statistics.length === 1 && list.length > 1;
    dots(element('row-figure'), fits ? statistics[0].title : '', fits ? lanes.map((row) => ({
      group: several || list.length === 1 ? named(row) : '', label: source(row), map: paintOf(row), row,
    })) : [], remarks);
  }

  function beginRows() {
    for (const name of [...Object.keys(CHOSEN), 'text']) {
      element(`row-${name}`).addEventListener('input', () => { limit = PAGE_OF_ROWS; drawRows(); });
    }
    element('row-more').addEventListener('click', () => { limit += 5 * PAGE_OF_ROWS; drawRows(); });
  }

  // ------------------------------------------------------------ everything

  function drawSubject() {
    for (const select of document.querySelectorAll('select.subject')) {
      fillSelect(select, subjects.map((own) => ({ value: String(own.index), text: named(own) })), String(subject.index));
    }
    drawHeat();
    drawCurves();
    drawTimes();
  }

  function drawAll() {
    if (!subject) return;
    drawModels();
    drawSubject();
    drawRows();
  }

  followTheme(() => { if (subject) drawHeat(); });

  // Paper is light, and what is folded on it stays so.
  let onScreen = null;
  window.addEventListener('beforeprint', () => {
    if (onScreen) return;
    onScreen = { theme: root.dataset.theme, folded: [...document.querySelectorAll('details:not([open])')] };
    for (const folded of onScreen.folded) folded.open = true;
    chooseTheme('light');
    if (subject) drawHeat();
  });
  window.addEventListener('afterprint', () => {
    if (!onScreen) return;
    for (const folded of onScreen.folded) folded.open = false;
    chooseTheme(onScreen.theme);
    onScreen = null;
    if (subject) drawHeat();
  });

  if (!subject) return;
  for (const needy of document.querySelectorAll('[data-needs-script]')) needy.hidden = false;
  beginModels();
  beginCurves();
  beginTimes();
  beginRows();
  for (const id of ['heat-map', 'heat-statistic', 'heat-weighting', 'heat-intervals']) element(id).addEventListener('input', drawHeat);
  for (const select of document.querySelectorAll('select.subject')) {
    select.addEventListener('input', () => {
      subject = subjects[Number(select.value)];
      drawSubject();
    });
  }
  drawAll();
  followWidth(document.body, drawAll);
})();
