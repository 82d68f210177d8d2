"use strict";
(() => {
  const ROW = 56, WORD = 22, WAVE = 84, OVERSCAN = 6, BEST = 12, JUMP = 5;
  const $ = (id) => document.getElementById(id);
  // Text comes from file names and is never markup: every element is created here, and nothing is parsed as HTML.
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const bytesOf = (id) => Uint8Array.from(atob($(id).textContent), (character) => character.charCodeAt(0));

  const library = JSON.parse($("library").textContent);
  const { tags, songs, categories, cutoffs, evidence } = library;
  const nSongs = songs.name.length;
  const packed = new Uint16Array(bytesOf("scores").buffer);
  const score = (song, tag) => packed[song * tags.length + tag] / 65535;
  const bestTags = (song, count) => {
    const scores = tags.map((_, tag) => score(song, tag));
    return tags.map((_, tag) => tag).sort((a, b) => scores[b] - scores[a]).slice(0, count);
  };
  const isDecided = (song, tag) => cutoffs !== null && cutoffs[tag] !== null && score(song, tag) >= cutoffs[tag];
  // The words that describe a song: those that are decided, or the best ones if the weights store no cut-offs.
  const decidedTags = (song) => tags.map((_, tag) => tag).filter((tag) => isDecided(song, tag)).sort((a, b) => score(song, b) - score(song, a));
  const tellingTags = (song, count) => (cutoffs ? decidedTags(song).slice(0, count) : bestTags(song, count));
  const bestNames = (song) => tellingTags(song, 3).map((tag) => tags[tag]).join(" · ") || "unsure";
  const known = (tag) => (evidence ? `${tags[tag]}: ${evidence[tag]}` : tags[tag]);
  const decimals = (value) => (value < 0.995 ? value.toFixed(2).slice(1) : "1.0");
  const clock = (seconds) => {
    const whole = Math.floor(seconds), pad = (n) => String(n).padStart(2, "0");
    const minutes = Math.floor(whole / 60) % 60, hours = Math.floor(whole / 3600);
    return hours ? `${hours}:${pad(minutes)}:${pad(whole % 60)}` : `${minutes}:${pad(whole % 60)}`;
  };
  const number = (value) => value.toLocaleString("en");
  const plural = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;
  const width = (element, share) => { element.style.width = `${100 * share}%`; return element; };
  const meter = (share) => make("div", { className: "meter" }, width(make("i"), share));
  const pill = (song, tag) =>
    make("span", { className: "pill", title: `${known(tag)} – here ${decimals(score(song, tag))}` }, width(make("i"), score(song, tag)), tags[tag]);

  const pills = (song, count) => {
    const found = tellingTags(song, count);
    return found.length ? found.map((tag) => pill(song, tag)) : [make("span", { className: "unsure" }, "unsure")];
  };

  /* ---- All songs ---- */

  const view = { query: "", words: new Map(), key: "place", down: false, chosen: -1, shown: [] };
  const haystack = songs.name.map((name, song) => `${songs.folder[song]}/${name}`.toLowerCase());
  const alphabet = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  const byName = new Int32Array(nSongs);
  songs.name.map((_, song) => song).sort((a, b) => alphabet.compare(songs.name[a], songs.name[b])).forEach((song, rank) => { byName[song] = rank; });
  const keyOf = (key) => {
    if (key === "place") return (song) => song;
    if (key === "name") return (song) => byName[song];
    if (key === "seconds") return (song) => songs.seconds[song];
    return (song) => (songs.error[song] ? -1 : packed[song * tags.length + key]);
  };

  function choose() {
    const needles = view.query.toLowerCase().split(/\s+/).filter(Boolean);
    const bars = [...view.words].filter(([, least]) => least > 0);
    const shown = [];
    for (let song = 0; song < nSongs; song++) {
      if (needles.every((needle) => haystack[song].includes(needle)) && bars.every(([tag, least]) => !songs.error[song] && score(song, tag) >= least)) shown.push(song);
    }
    const key = keyOf(view.key), sign = view.down ? -1 : 1;
    view.shown = shown.sort((a, b) => sign * (key(a) - key(b)) || a - b);
    view.chosen = Math.min(view.chosen, shown.length - 1);
    $("shown").textContent = shown.length === nSongs ? "" : `${number(shown.length)} of ${number(nSongs)}`;
    $("nothing").hidden = shown.length > 0;
    $("scroller").hidden = !shown.length;
    $("rows").style.height = `${shown.length * ROW}px`;
    drawRows();
  }

  function drawHead() {
    const column = (label, key, className = "") => {
      const cell = make("div", { className, role: "columnheader" }, label);
      if (key === null) return cell;
      const button = make("button", { type: "button", title: `Sort by ${label}` }, label);
      button.onclick = () => sortBy(key);
      cell.replaceChildren(button);
      if (view.key === key) {
        cell.classList.add("sorted");
        cell.classList.toggle("down", view.down);
        cell.ariaSort = view.down ? "descending" : "ascending";
      }
      return cell;
    };
    const words = [...view.words.keys()];
    const narrow = matchMedia("(max-width: 46rem)").matches;
    const wordWidth = narrow ? " 3.4rem" : " 7.5rem";
    $("overview").style.setProperty("--grid", `minmax(0, 1fr)${narrow ? "" : " minmax(0, 1.1fr)"}${wordWidth.repeat(words.length)} 3.6rem`);
    $("columns").replaceChildren(
      column("Song", "name"), column(cutoffs ? "Decided words" : "Best words", null, "wide"),
      ...words.map((tag) => column(tags[tag], tag)), column("Length", "seconds", "end"));
  }

  function sortBy(key, down) {
    // A second click reverses the order, and a third restores the order of the files.
    const first = typeof key === "number" || key === "seconds";
    if (down !== undefined || view.key !== key) [view.key, view.down] = [key, down ?? first];
    else if (view.down === first) view.down = !first;
    else [view.key, view.down] = ["place", false];
    $("scroller").scrollTop = 0;
    view.chosen = -1;
    drawHead();
    choose();
  }

  function drawRows() {
    const scroller = $("scroller");
    const first = Math.max(0, Math.floor(scroller.scrollTop / ROW) - OVERSCAN);
    const last = Math.min(view.shown.length, Math.ceil((scroller.scrollTop + scroller.clientHeight) / ROW) + OVERSCAN);
    $("rows").replaceChildren(...view.shown.slice(first, last).map((song, offset) => rowOf(song, first + offset)));
    $("columns").style.setProperty("--bar", `${scroller.offsetWidth - scroller.clientWidth}px`);
  }

  function rowOf(song, place) {
    const failed = songs.error[song];
    const link = make("a", { href: `#song-${song}`, tabIndex: -1, className: failed ? "failed" : "" }, songs.name[song]);
    const row = make("div", { className: place === view.chosen ? "row chosen" : "row", role: "row", ariaRowIndex: place + 2, id: `row-${song}` },
      make("div", { className: "title", role: "cell" }, link,
        make("span", { className: "wide" }, songs.folder[song]),
        make("span", { className: "narrow" }, failed ? "could not be tagged" : bestNames(song))),
      failed ? make("div", { className: "failed-text wide", role: "cell", title: failed }, "could not be tagged")
        : make("div", { className: "tops wide", role: "cell" }, ...pills(song, 4)),
      ...[...view.words.keys()].map((tag) => failed ? make("div", { role: "cell" })
        : make("div", { className: "score", role: "cell" }, meter(score(song, tag)), decimals(score(song, tag)))),
      make("div", { className: "end", role: "cell" }, failed ? "" : clock(songs.seconds[song])));
    row.style.top = `${place * ROW}px`;
    row.onclick = (event) => { view.chosen = place; if (event.target !== link) location.hash = `song-${song}`; };
    return row;
  }

  function moveTo(place) {
    const scroller = $("scroller");
    view.chosen = Math.max(0, Math.min(place, view.shown.length - 1));
    const top = view.chosen * ROW;
    scroller.scrollTop = Math.min(top, Math.max(scroller.scrollTop, top + ROW - scroller.clientHeight));
    drawRows();
    if (view.shown.length) scroller.setAttribute("aria-activedescendant", `row-${view.shown[view.chosen]}`);
  }

  const pageful = () => Math.max(1, Math.floor($("scroller").clientHeight / ROW) - 1);

  function addWord(tag) {
    if (!view.words.has(tag)) {
      view.words.set(tag, 0);
      const least = make("input", { type: "range", min: 0, max: 1, step: 0.01, value: 0, ariaLabel: `Minimum score for ${tags[tag]}` });
      const text = make("output", {}, "any");
      const remove = make("button", { type: "button", ariaLabel: `Remove ${tags[tag]}`, title: "Remove" }, "×");
      const chip = make("div", { className: "filter" }, make("b", {}, tags[tag]), least, text, remove);
      least.oninput = () => {
        view.words.set(tag, +least.value);
        text.textContent = +least.value ? `≥ ${decimals(+least.value)}` : "any";
        choose();
      };
      remove.onclick = () => {
        view.words.delete(tag);
        chip.remove();
        if (view.key === tag) [view.key, view.down] = ["place", false];
        drawHead();
        choose();
      };
      $("filters").append(chip);
    }
    sortBy(tag, true);
  }

  function clearFilters() {
    view.words.clear();
    $("filters").replaceChildren();
    $("search").value = view.query = "";
    [view.key, view.down] = ["place", false];
    drawHead();
    choose();
  }

  function startOverview() {
    const seconds = songs.seconds.reduce((sum, value) => sum + value, 0);
    const failed = songs.error.filter(Boolean).length;
    const length = seconds >= 36000 ? `${number(Math.round(seconds / 3600))} hours` : clock(seconds);
    $("totals").textContent = [plural(nSongs - failed, "song"), length, ...(failed ? [`${number(failed)} could not be tagged`] : [])].join(" · ");
    const counts = tags.map(() => 0);
    for (let song = 0; song < nSongs; song++) if (!songs.error[song]) for (const tag of tellingTags(song, cutoffs ? tags.length : 5)) counts[tag]++;
    const order = tags.map((_, tag) => tag).sort((a, b) => counts[b] - counts[a]);
    $("frequent").replaceChildren(...order.filter((tag) => counts[tag]).slice(0, 12).map((tag) => {
      const button = make("button", { type: "button", title: `${cutoffs ? "Decided for" : "Among the five best words of"} ${plural(counts[tag], "song")}` }, tags[tag], make("small", {}, number(counts[tag])));
      button.onclick = () => addWord(tag);
      return button;
    }));
    $("add-word").append(...tags.map((tag, index) => make("option", { value: index }, tag)).sort((a, b) => alphabet.compare(a.text, b.text)));
    $("add-word").onchange = (event) => { if (event.target.value) addWord(+event.target.value); event.target.value = ""; };
    $("search").oninput = (event) => { view.query = event.target.value; view.chosen = -1; $("scroller").scrollTop = 0; choose(); };
    $("clear").onclick = clearFilters;
    let waiting = false;
    $("scroller").onscroll = () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; drawRows(); });
    };
  }

  /* ---- One song ---- */

  const audio = $("audio");
  let current = null;

  // What `Report._picture` wrote: numbers of words, columns and points, the words, the heat map, peaks and powers.
  function pictureOf(song) {
    const bytes = bytesOf(`picture-${song}`);
    if (!bytes.length) return null;
    const [nWords, columns, points] = new Uint16Array(bytes.buffer, 0, 3);
    const heat = 6 + 2 * nWords, wave = heat + nWords * columns;
    return {
      words: [...new Uint16Array(bytes.buffer, 6, nWords)], columns, points,
      heat: bytes.subarray(heat, wave), peaks: bytes.subarray(wave, wave + points), powers: bytes.subarray(wave + points),
    };
  }

  function openSong(song) {
    closeSong();
    const seconds = songs.seconds[song], failed = songs.error[song];
    current = { song, seconds, position: 0, all: false, picture: pictureOf(song), url: null };
    document.title = `${songs.name[song]} – samptag`;
    $("name").textContent = songs.name[song];
    $("folder").textContent = songs.folder[song];
    $("facts").textContent = failed ? "" : [clock(seconds), `${songs.rate[song] / 1000} kHz`, plural(songs.segments[song], "segment")].join(" · ");
    const place = view.shown.indexOf(song);
    $("which").textContent = nSongs > 1 && place >= 0 ? `${number(place + 1)} of ${number(view.shown.length)}` : "";
    $("previous").disabled = place <= 0;
    $("next").disabled = place < 0 || place >= view.shown.length - 1;
    $("notices").replaceChildren(
      ...(failed ? [make("p", { className: "bad" }, failed)] : []),
      ...songs.warnings[song].map((text) => make("p", {}, text)),
      ...(songs.padded[song] ? [make("p", {}, "Shorter than one segment: padded with silence.")] : []));
    for (const id of ["player", "words", "words-title"]) $(id).hidden = Boolean(failed);
    document.querySelector(".pair").hidden = Boolean(failed);
    $("play").classList.remove("playing");
    if (failed) return;
    $("length").textContent = `/ ${clock(seconds)}`;
    $("stage").ariaValueMax = Math.floor(seconds);
    $("best").replaceChildren(...pills(song, 5));
    drawWords(song);
    drawNeighbours(song);
    $("more").hidden = !current.picture || current.picture.words.length <= BEST;
    if (songs.embedded[song]) {
      current.url = URL.createObjectURL(new Blob([bytesOf(`sound-${song}`)], { type: songs.audio[song] }));
      audio.src = current.url;
    } else audio.src = songs.audio[song];
    drawSong();
    seek(0);
  }

  function drawWords(song) {
    const ranked = bestTags(song, tags.length);
    const groups = categories ? [...new Set(categories)] : [null];
    $("words").replaceChildren(...groups.flatMap((group) => [
      ...(group === null ? [] : [make("li", { className: "category" }, group)]),
      ...ranked.filter((tag) => group === null || categories[tag] === group).map((tag) => wordOf(song, tag)),
    ]));
    $("known").hidden = !evidence;
    $("known").textContent = "Point at a word to see what is known about it.";
  }

  function wordOf(song, tag) {
    const opens = nSongs > 1;
    // Even where it opens nothing it is a button if there is evidence, so that touch and the keyboard can show that.
    const name = make(opens || evidence ? "button" : "b", { title: opens ? `Songs with ${tags[tag]}` : "" }, tags[tag]);
    if (opens) name.onclick = () => { location.hash = ""; addWord(tag); };
    const bar = meter(score(song, tag));
    if (cutoffs && cutoffs[tag] !== null) {
      const mark = make("s");
      mark.style.left = `${100 * cutoffs[tag]}%`;
      bar.append(mark);
    }
    const item = make("li", { className: isDecided(song, tag) ? "decided" : "" }, name, bar, make("span", {}, decimals(score(song, tag))));
    if (evidence) {
      item.onpointerenter = item.onclick = name.onfocus = () => { $("known").textContent = known(tag); };
      bar.title = known(tag);
    }
    return item;
  }

  function drawNeighbours(song) {
    const elsewhere = songs.alike[song], here = songs.neighbours[song];
    const entry = (text, words, properties) =>
      make("li", {}, make(properties.href ? "a" : "div", properties, make("b", {}, text), make("span", {}, words)));
    $("alike").hidden = !elsewhere.length && !here.length;
    $("where").textContent = elsewhere.length ? "in your index" : "among these songs";
    $("neighbours").replaceChildren(...(elsewhere.length
      ? elsewhere.map((other) => entry(other.name, other.words || "unsure", other.song !== null ? { href: `#song-${other.song}` }
        : other.address ? { href: other.address, target: "_blank", rel: "noopener", title: "Play the file in a new tab" } : {}))
      : here.map((other) => entry(songs.name[other], bestNames(other), { href: `#song-${other}` }))));
  }

  function closeSong() {
    if (!current) return;
    audio.pause();
    audio.removeAttribute("src");
    audio.load();
    if (current.url) URL.revokeObjectURL(current.url);
    current = null;
  }

  const colour = (name) => {
    const probe = make("span");
    probe.style.color = `var(--${name})`;
    document.body.append(probe);
    const parts = getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
    probe.remove();
    return parts;
  };
  // The heat map's 256 colours in the current theme.
  function ramp() {
    const stops = [0, 1, 2, 3, 4].map((stop) => colour(`ramp-${stop}`));
    return Array.from({ length: 256 }, (_, level) => {
      const at = (level / 255) * 4, low = Math.min(3, Math.floor(at));
      return stops[low].map((value, channel) => Math.round(value + (stops[low + 1][channel] - value) * (at - low)));
    });
  }
  function sized(canvas, height) {
    const ratio = devicePixelRatio || 1;
    canvas.style.height = `${height}px`;
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    canvas.height = Math.max(1, Math.round(height * ratio));
    return [canvas.getContext("2d"), ratio];
  }
  function paintRow(pixels, colours, levels, offset) {
    levels.forEach((level, column) => {
      const [red, green, blue] = colours[level];
      pixels.set([red, green, blue, 255], 4 * (offset + column));
    });
  }

  function drawSong() {
    if (!current?.picture) return;
    const { words, columns, heat } = current.picture;
    const shown = current.all ? words : words.slice(0, BEST);
    $("more").textContent = current.all ? `Only the ${BEST} best words` : `All ${words.length} words`;
    $("labels").replaceChildren(...shown.map((tag) => make("span", { title: known(tag) }, tags[tag])));
    $("values").replaceChildren(...shown.map((tag) => make("span", {}, decimals(score(current.song, tag)))));
    const colours = ramp();
    const image = new ImageData(columns, shown.length);
    shown.forEach((_, row) => paintRow(image.data, colours, heat.subarray(row * columns, (row + 1) * columns), row * columns));
    const source = new OffscreenCanvas(columns, shown.length);
    source.getContext("2d").putImageData(image, 0, 0);
    const canvas = $("heat");
    const [context, ratio] = sized(canvas, shown.length * WORD);
    context.imageSmoothingEnabled = false;
    shown.forEach((_, row) => context.drawImage(source, 0, row, columns, 1, 0, Math.round((row * WORD + 1) * ratio), canvas.width, Math.round((WORD - 2) * ratio)));
    const strip = new ImageData(256, 1);
    paintRow(strip.data, colours, Uint8Array.from({ length: 256 }, (_, level) => level), 0);
    $("legend").width = 256;
    $("legend").getContext("2d").putImageData(strip, 0, 0);
    drawTicks();
    drawWave();
    current.lit = -1;
    place();
  }

  function drawTicks() {
    const room = $("ticks").clientWidth, seconds = current.seconds;
    const step = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600].find((value) => (value / seconds) * room >= 64) ?? 7200;
    const marks = [];
    for (let time = 0; time < seconds - step / 4; time += step) {
      const mark = make("span", {}, clock(time));
      mark.style.left = `${(100 * time) / seconds}%`;
      marks.push(mark);
    }
    $("ticks").replaceChildren(...marks);
  }

  function drawWave() {
    const { points, peaks, powers } = current.picture;
    const canvas = $("wave"), [context, ratio] = sized(canvas, WAVE);
    const css = (name) => `rgb(${colour(name).join(" ")})`;
    const played = (current.position / current.seconds) * canvas.width;
    const pitch = Math.max(1, Math.round(3 * ratio)), bar = Math.max(1, Math.round(2 * ratio)), middle = canvas.height / 2;
    const colours = { before: [css("accent"), css("ramp-2")], after: [css("faint"), css("line")] };
    for (let x = 0; x < canvas.width; x += pitch) {
      const first = Math.floor((x / canvas.width) * points), last = Math.max(first + 1, Math.floor(((x + pitch) / canvas.width) * points));
      let peak = 0, power = 0;
      for (let point = first; point < Math.min(last, points); point++) {
        peak = Math.max(peak, peaks[point]);
        power = Math.max(power, powers[point]);
      }
      const [inner, outer] = x < played ? colours.before : colours.after;
      for (const [level, style] of [[peak, outer], [power, inner]]) {
        const height = Math.max(ratio, (level / 255) * (canvas.height - 2 * ratio));
        context.fillStyle = style;
        context.fillRect(x, middle - height / 2, bar, height);
      }
    }
  }

  // Update everything that depends on the position.
  function place() {
    if (!current) return;
    const share = current.position / current.seconds;
    $("head").style.left = `${100 * share}%`;
    $("now").textContent = clock(current.position);
    $("stage").ariaValueNow = Math.floor(current.position);
    $("stage").ariaValueText = `${clock(current.position)} of ${clock(current.seconds)}`;
    if (!current.picture) return;
    drawWave();
    const { columns, heat } = current.picture;
    const column = current.position > 0 ? Math.min(columns - 1, Math.floor(share * columns)) : -1;
    if (column === current.lit) return;
    current.lit = column;
    [...$("labels").children].forEach((label, row) => {
      const level = column < 0 ? null : heat[row * columns + column] / 255;
      const value = $("values").children[row];
      value.textContent = decimals(level ?? score(current.song, current.picture.words[row]));
      for (const element of [label, value]) element.classList.toggle("on", level !== null && level >= 0.4);
    });
  }

  function seek(seconds) {
    if (!current) return;
    current.position = Math.max(0, Math.min(seconds, current.seconds));
    // Before the metadata is loaded there is no position to set: onloadedmetadata sets it then.
    if (audio.readyState >= HTMLMediaElement.HAVE_METADATA) audio.currentTime = Math.min(current.position, audio.duration || Infinity);
    place();
  }
  function toggle() {
    if (!current || songs.error[current.song]) return;
    if (!audio.paused) return audio.pause();
    if (current.position >= current.seconds - 0.05) seek(0);
    audio.play().catch(() => { /* the element's error event says why */ });
  }
  function follow() {
    if (!current || audio.paused) return;
    current.position = Math.min(audio.currentTime, current.seconds);
    place();
    requestAnimationFrame(follow);
  }

  function startPlayer() {
    audio.onplay = () => { $("play").classList.add("playing"); $("play").ariaLabel = "Pause"; follow(); };
    audio.onpause = () => { $("play").classList.remove("playing"); $("play").ariaLabel = "Play"; };
    audio.onloadedmetadata = () => { if (current?.position) seek(current.position); };
    audio.onerror = () => {
      if (!current || !audio.hasAttribute("src")) return;
      const why = songs.embedded[current.song] ? "This browser does not support the format of this file." : "This browser cannot play the file: it has been moved, or its format is not supported.";
      $("notices").append(make("p", {}, why));
    };
    $("play").onclick = toggle;
    $("more").onclick = () => { current.all = !current.all; drawSong(); };
    const stage = $("stage");
    const share = (event) => {
      const box = stage.getBoundingClientRect();
      return Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
    };
    let dragging = false;
    stage.onpointerdown = (event) => { dragging = true; stage.setPointerCapture(event.pointerId); seek(share(event) * current.seconds); };
    stage.onpointerup = stage.onpointercancel = () => { dragging = false; };
    stage.onpointerleave = () => { $("tip").hidden = true; };
    stage.onpointermove = (event) => {
      const at = share(event), box = stage.getBoundingClientRect();
      if (dragging) seek(at * current.seconds);
      $("cross").style.left = `${100 * at}%`;
      const row = Math.floor((event.clientY - $("heat").getBoundingClientRect().top) / WORD), { words, columns, heat } = current.picture;
      const word = row >= 0 && row < $("labels").children.length ? `  ${tags[words[row]]} ${decimals(heat[row * columns + Math.min(columns - 1, Math.floor(at * columns))] / 255)}` : "";
      const tip = $("tip");
      tip.textContent = clock(at * current.seconds) + word;
      tip.hidden = false;
      tip.style.left = `${Math.max(0, Math.min(box.width - tip.offsetWidth, at * box.width + 12))}px`;
      tip.style.top = `${event.clientY - box.top - 34}px`;
    };
  }

  /* ---- The whole page ---- */

  function step(by) {
    if (!current) return;
    const next = view.shown[view.shown.indexOf(current.song) + by];
    if (next === undefined) return;
    view.chosen = view.shown.indexOf(next);
    location.hash = `song-${next}`;
  }

  function route() {
    const asked = /^#song-(\d+)$/.exec(location.hash);
    const song = nSongs === 1 ? 0 : asked && +asked[1] < nSongs ? +asked[1] : null;
    $("overview").hidden = song !== null;
    $("song").hidden = song === null;
    $("place").hidden = song === null || nSongs === 1;
    if (song === null) {
      closeSong();
      document.title = `${library.title} – samptag`;
      if (view.chosen < 0) drawRows();
      else moveTo(view.chosen);
    } else {
      openSong(song);
      scrollTo(0, 0);
      $("name").focus({ preventScroll: true });
    }
  }

  const dark = matchMedia("(prefers-color-scheme: dark)");
  function switchTheme() {
    const now = document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");
    document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
    drawSong();
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
    const typing = event.target.matches("input, select");
    // While something is being typed, Escape leads back to the songs, and so does the down arrow from the search box.
    if (typing && (event.key === "Escape" || (event.key === "ArrowDown" && event.target === $("search")))) return event.target.blur();
    if (typing) return;
    const onButton = event.target.matches("button");
    const keys = {
      "?": () => $("keys").showModal(), t: switchTheme, T: switchTheme,
      ...(current
        ? {
            ...(onButton ? {} : { " ": toggle }),
            ArrowLeft: () => seek(current.position - JUMP), ArrowRight: () => seek(current.position + JUMP),
            Home: () => seek(0), End: () => seek(current.seconds), "[": () => step(-1), "]": () => step(1),
            Escape: () => { if (nSongs > 1) location.hash = ""; },
          }
        : {
            "/": () => $("search").focus(),
            ArrowDown: () => moveTo(view.chosen + 1), ArrowUp: () => moveTo(view.chosen - 1),
            PageDown: () => moveTo(view.chosen + pageful()), PageUp: () => moveTo(view.chosen - pageful()),
            Home: () => moveTo(0), End: () => moveTo(Infinity),
            ...(onButton ? {} : { Enter: () => { if (view.shown[view.chosen] !== undefined) location.hash = `song-${view.shown[view.chosen]}`; } }),
          }),
    };
    if (keys[event.key]) {
      event.preventDefault();
      keys[event.key]();
    }
  });
  $("back").onclick = () => { location.hash = ""; };
  $("previous").onclick = () => step(-1);
  $("next").onclick = () => step(1);
  $("theme").onclick = switchTheme;
  $("help").onclick = () => $("keys").showModal();
  dark.onchange = drawSong;
  addEventListener("hashchange", route);
  addEventListener("resize", () => { drawHead(); if (current) drawSong(); else drawRows(); });
  $("made").textContent = `Tagged with ${library.model} on ${library.made} by samptag.`;
  startOverview();
  startPlayer();
  drawHead();
  choose();
  route();
})();
