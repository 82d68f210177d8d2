"""The page in a real browser: no errors, no requests, clicks that seek, and names that stay names."""

import pytest
from deciding_weights import save_deciding_weights
from report_pages import SCRIPT_NAME, make_long_page, make_page

from samptag.report import Neighbour
from samptag.tagging.tagger import Tagger


@pytest.fixture
def overview(browser, page):
    browser.open(page)
    return browser


@pytest.fixture
def song(browser, page, library):
    """The 30 s clip whose name is markup, opened."""
    browser.open(page)
    number = browser.run("return JSON.parse(document.getElementById('library').textContent).songs.name")
    browser.open(page, fragment=f"#song-{number.index(SCRIPT_NAME)}")
    browser.wait("document.getElementById('audio').readyState >= 1")
    return browser


def names(browser) -> list[str]:
    return browser.run("return [...document.querySelectorAll('#rows .title a')].map((a) => a.textContent)")


def test_overview_lists_every_file_as_text(overview):
    shown = names(overview)
    assert SCRIPT_NAME in shown
    assert "broken.mp3" in shown
    assert overview.run("return document.querySelector('h1').textContent") == "</title><script>alert(2)</script>"
    assert overview.run("return document.querySelectorAll('img').length") == 0
    assert "26 songs · " in overview.run("return document.getElementById('totals').textContent")
    assert overview.console() == []


def test_nothing_is_asked_for_but_the_page_and_the_song_that_is_open(overview, page, library):
    assert overview.requests() == [page.as_uri()]
    overview.click("#rows .row:nth-child(4)")
    overview.wait("document.getElementById('audio').readyState >= 1")
    folder = library.as_uri()
    asked = overview.requests()
    assert asked
    assert all(address.startswith(folder + "/set/") for address in asked)
    assert overview.console() == []


def test_the_content_policy_lets_no_other_script_and_no_request_through(overview):
    overview.run(
        "const s = document.createElement('script'); s.textContent = 'window.broken = 1'; document.body.append(s)"
    )
    assert overview.run("return window.broken") is None
    assert overview.run("return document.body.setAttribute('onclick', 'window.broken = 2')") is None
    overview.click("h1")
    assert overview.run("return window.broken") is None
    failed = overview.driver.execute_async_script("fetch('http://127.0.0.1:9/').catch((e) => arguments[0](String(e)))")
    assert "Failed to fetch" in failed
    overview.console(at_least=3)


def test_every_odd_name_leads_to_its_audio(browser, page):
    browser.open(page)
    count = browser.run("return JSON.parse(document.getElementById('library').textContent).songs.name.length")
    for number in range(count):
        browser.run(f"location.hash = 'song-{number}'")
        if browser.run("return document.getElementById('player').hidden"):
            continue
        browser.wait(f"location.hash === '#song-{number}' && document.getElementById('audio').readyState >= 1")
    assert browser.console() == []


def test_a_click_on_the_heat_map_seeks(song):
    for across in (0.5, 0.8, 0.1):
        song.click("#stage", across=across, down=0.7)
        song.wait("!document.getElementById('audio').seeking")
        assert song.run("return document.getElementById('audio').currentTime") == pytest.approx(30 * across, abs=0.3)
        assert song.run("return parseFloat(document.getElementById('head').style.left)") == pytest.approx(
            100 * across, abs=1
        )
    assert song.console() == []


def test_the_cursor_follows_the_sound(song):
    song.press(" ")
    song.wait("document.getElementById('audio').currentTime > 0.5")
    head = song.wait(
        "parseFloat(document.getElementById('head').style.left) > 1 && document.getElementById('head').style.left"
    )
    song.press(" ")
    song.wait("document.getElementById('audio').paused")
    here = song.run("return document.getElementById('audio').currentTime")
    assert 0 < float(head.removesuffix("%")) <= 100 * here / 30 + 1
    song.press("\ue014")  # right arrow
    assert song.run("return document.getElementById('audio').currentTime") == pytest.approx(here + 5, abs=0.2)
    assert song.console() == []


def test_the_heat_map_has_the_scores_of_the_taggram(browser, tagger, media, tmp_path):
    clip = media / "eastern-dreams.mp3"
    browser.open(make_page(tmp_path / "song.html", [clip], tagger))
    result = tagger.tag(clip)
    for tag, start in (("piano", 3.0), ("techno", 17.0)):
        row = browser.run(
            f"return [...document.querySelectorAll('#labels span')].findIndex((s) => s.title === '{tag}')"
        )
        segment = int(start // (tagger.length / tagger.sample_rate))
        middle = (result.starts[segment] + tagger.length / tagger.sample_rate / 2) / result.duration
        browser.click("#stage", across=middle)
        shown = browser.run(f"return document.querySelectorAll('#values span')[{row}].textContent")
        assert float(shown) == pytest.approx(float(result.taggram[segment, tagger.tags.index(tag)]), abs=0.011)
    ink = browser.run(
        "const c = document.getElementById('heat');"
        "return new Set(new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size"
    )
    assert ink > 20
    assert browser.console() == []


def test_search_words_and_sorting(overview):
    overview.click("#search")
    overview.press("calm 1")
    assert sorted(names(overview)) == [n for n in sorted(names(overview)) if n.startswith("calm") and "1" in n]
    assert overview.run("return document.getElementById('shown').textContent").endswith(" of 27")
    overview.press("\ue00c")  # Escape leaves the box
    overview.run(
        "document.getElementById('search').value = ''; document.getElementById('search').oninput({target: {value: ''}})"
    )
    overview.click("#frequent button")
    scores = overview.run("return [...document.querySelectorAll('#rows .score')].map((s) => parseFloat(s.textContent))")
    assert len(scores) > 5
    assert scores == sorted(scores, reverse=True)
    overview.run("const r = document.querySelector('.filter input'); r.value = 1; r.dispatchEvent(new Event('input'))")
    assert names(overview) == []
    overview.click("#clear")
    assert len(names(overview)) > 5
    assert overview.console() == []


def test_the_keyboard_alone_opens_songs_and_leads_back(overview):
    overview.press("\ue015", "\ue015", "\ue007")  # down, down, Enter
    second = overview.wait("!document.getElementById('song').hidden && document.getElementById('name').textContent")
    overview.press("]")
    third = overview.wait(
        f"document.getElementById('name').textContent !== {second!r} && document.getElementById('name').textContent"
    )
    overview.press("\ue00c")  # Escape
    overview.wait("document.getElementById('song').hidden")
    assert names(overview)[1:3] == [second, third]
    assert overview.run("return document.querySelector('.chosen a').textContent") == third
    overview.press("t")
    dark = overview.run(
        "return [document.documentElement.dataset.theme, getComputedStyle(document.body).backgroundColor]"
    )
    overview.press("t")
    light = overview.run(
        "return [document.documentElement.dataset.theme, getComputedStyle(document.body).backgroundColor]"
    )
    assert {dark[0], light[0]} == {"dark", "light"}
    assert dark[1] != light[1]
    assert overview.console() == []


def test_neighbours_open(song):
    song.click("#neighbours a")
    song.wait(f"document.getElementById('name').textContent !== {SCRIPT_NAME!r}")
    assert song.console() == []


@pytest.fixture(scope="module")
def decider(tmp_path_factory):
    """Real weights that sort and decide their words, and know something of them."""
    return Tagger.from_pretrained(save_deciding_weights(tmp_path_factory.mktemp("w") / "deciding.safetensors"))


def texts(browser, selector):
    return browser.run(f"return [...document.querySelectorAll('{selector}')].map((e) => e.textContent)")


def test_words_are_sorted_and_tell_what_is_known_of_them(browser, decider, media, tmp_path):
    browser.open(make_page(tmp_path / "song.html", [media / "eastern-dreams.mp3"], decider))
    assert texts(browser, "#words .category") == ["instrument", "genre", "pace", "voice", "mood"]
    assert texts(browser, "#words .decided > button") == ["guitar", "sitar"]
    assert texts(browser, "#best .pill") == ["guitar", "sitar"]
    guitar = (
        "guitar: people's tags: ROC-AUC .91 (.85 to .96), PR-AUC .80 (.70 to .88), on 21 of 63 tracks "
        "(63 tracks; their teacher had heard them); decided from 0.50, right in 80% by people"
    )
    browser.click("#words .decided .meter")
    assert texts(browser, "#known") == [guitar]
    assert browser.run("return document.querySelector('#labels span').title") == guitar
    browser.run("[...document.querySelectorAll('#words button')].find((b) => b.textContent === 'fast').focus()")
    assert texts(browser, "#known") == ["fast: unverified; decided from 0.90"]
    marks = browser.run("return [...document.querySelectorAll('#words .decided s')].map((s) => s.style.left)")
    assert marks == ["50%", "20%"]
    assert browser.console() == []


def test_the_overview_shows_what_is_decided(browser, decider, media, tmp_path):
    songs = sorted((media / "set").iterdir())[:6]
    browser.open(make_page(tmp_path / "songs.html", songs, decider))
    assert texts(browser, "#columns > :nth-child(2)") == ["Decided words"]
    first = decider.tag(songs[0]).top(4, decided=True)
    assert texts(browser, "#rows .row:first-child .pill") == [item.tag for item in first]
    assert "unsure" in texts(browser, "#rows .unsure")
    assert browser.console() == []


def test_neighbours_from_elsewhere_are_text_and_lead_to_their_files(browser, tagger, media, tmp_path):
    songs = [media / "bay.wav", media / "eastern-dreams.mp3"]
    alike = [
        Neighbour(name=SCRIPT_NAME, words="piano", path=str(media / "void-sensor.ogg")),
        Neighbour(name="bay", words="", path=str(media / "bay.wav")),
    ]
    target = tmp_path / "page.html"
    browser.open(make_page(target, songs, tagger, alike=alike), fragment="#song-1")
    assert texts(browser, "#neighbours b") == [SCRIPT_NAME, "bay"]
    assert texts(browser, "#neighbours b + span") == ["piano", "unsure"]
    assert texts(browser, "#where") == ["in your index"]
    links = browser.run("return [...document.querySelectorAll('#neighbours a')].map((a) => a.href)")
    assert links == [(media / "void-sensor.ogg").as_uri(), f"{target.as_uri()}#song-0"]
    browser.click("#neighbours li:nth-child(2) a")
    browser.wait("document.getElementById('name').textContent === 'bay.wav'")
    assert browser.console() == []
    # On a page to be sent away, nothing leads to files of this machine.
    browser.open(make_page(target, songs, tagger, alike=alike, embed_below=10_000_000), fragment="#song-1")
    assert browser.run("return document.querySelectorAll('#neighbours a').length") == 1
    assert str(media) not in target.read_text(encoding="utf-8")


def test_a_song_that_failed_says_why(browser, page):
    browser.open(page)
    browser.run("[...document.querySelectorAll('#rows a.failed')][0].click()")
    assert "not a sound file" in browser.wait("document.querySelector('#notices .bad')?.textContent")
    assert browser.console() == []


def test_embedded_audio_plays_without_its_file(browser, tagger, media, tmp_path):
    target = tmp_path / "away" / "song.html"
    target.parent.mkdir()
    clip = tmp_path / "clip.mp3"
    clip.write_bytes((media / "eastern-dreams.mp3").read_bytes())
    make_page(target, [clip], tagger, embed_below=1_000_000)
    clip.unlink()
    browser.open(target)
    browser.wait("document.getElementById('audio').readyState >= 1")
    browser.click("#stage", across=0.5)
    browser.wait("!document.getElementById('audio').seeking")
    assert browser.run("return document.getElementById('audio').currentTime") == pytest.approx(15, abs=0.3)
    assert {address.split(":")[0] for address in browser.requests()} <= {"file", "blob", "data"}
    assert browser.console() == []


def test_only_what_is_seen_of_a_long_table_is_drawn(browser, tagger, library, tmp_path):
    browser.open(make_long_page(tmp_path / "long.html", next((library / "set").iterdir()), tagger, n_songs=5000))
    browser.wait("document.querySelectorAll('#rows .row').length")
    assert browser.run("return document.getElementById('rows').offsetHeight") == 5000 * 56
    browser.press("\ue010")  # End
    assert browser.wait("document.querySelector('.chosen a')?.textContent") == "song 4999.opus"
    assert browser.run("return document.querySelectorAll('#rows .row').length") < 60
