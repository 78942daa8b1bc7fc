"""Studies: what is stored can be read and confirmed, and a study that no longer matches its code is noticed."""

import json

import numpy as np
import pytest

from signalprop import study
from signalprop.study import Study
from tools import studies

SCRIPT = '''"""How a number grows. It is run here to test the runner."""

from signalprop.bands import band

SEEDS = 3
CONFIGURATIONS = [{"slope": 1, "of": "a"}, {"slope": 2, "of": "b"}]


def run(configuration, seeds):
    return {"end": [configuration["slope"] * seed for seed in range(seeds)]}
'''


def stored():
    rows = [{"configuration": {"slope": s, "of": o}, "result": {"end": [0.0, s, 2.0 * s]}} for s, o in ((1, "a"), (2, "b"))]
    return Study("00_test", {"seeds": 3, "rows": rows})


def test_values_are_found_by_a_part_of_the_configuration():
    assert stored().values("end", slope=2).tolist() == [0, 2, 4]
    assert stored().values("end", of="a").tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "bad, message",
    [
        (lambda: stored().values("end"), "2 fit"),
        (lambda: stored().values("end", slope=3), "0 fit"),
        (lambda: stored().values("start", slope=1), "out of end; got 'start'"),
        (lambda: study.load("99_none"), "got '99_none'"),
        (lambda: stored().confirm("end", [9, 9, 9], slope=1), "between 0.1 and 1.9, got 9"),
    ],
)
def test_bad_input_says_what_was_expected(bad, message):
    with pytest.raises(ValueError, match=message):
        bad()


def test_what_falls_within_the_band_is_confirmed():
    stored().confirm("end", [0.5, 1.5, 1.8], slope=1)
    stored().confirm("end", np.array([0.2]), slope=1)


def test_a_study_is_run_stored_and_held_to_its_code(small_course):
    folder = small_course.path / "studies"
    folder.mkdir()
    script, result = folder / "00_test.py", folder / "00_test.json"
    script.write_text(SCRIPT)
    assert "00_test.json has no result" in small_course.tools("check", fails=True).stderr
    ran = small_course.tools("studies")
    assert "00_test" in ran.stderr and "2/2" in ran.stderr
    content = json.loads(result.read_text())
    assert content["rows"][1] == {"configuration": {"slope": 2, "of": "b"}, "result": {"end": [0, 2, 4]}}
    assert content["seeds"] == 3 and content["about"].startswith("How a number grows.") and "torch" in content["versions"]
    small_course.tools("check")
    assert "0 of 1 studies to run" in small_course.tools("studies").stdout
    small_course.tools("studies", "--again")

    # A run that was cut off goes on where it stopped; rows of other code do not count.
    part, rows = folder / "00_test.part", content["rows"]
    kept = [{"code": content["code"], "index": 0, "row": rows[0]}, {"code": "other", "index": 1, "row": rows[0]}]
    part.write_text("".join(json.dumps(entry) + "\n" for entry in kept) + '{"code": "cut o')
    result.unlink()
    assert "1/1" in small_course.tools("studies").stderr
    assert json.loads(result.read_text()) == content and not part.exists()

    # A comment or a docstring changes nothing; code does, in the script and in what it imports.
    script.write_text(SCRIPT.replace("It is run here", "It runs here") + "# more\n")
    small_course.tools("check")
    bands = small_course.path / "signalprop/bands.py"
    bands.write_text(bands.read_text() + "\nNEW = 1\n")
    assert "00_test.json was made by other code" in small_course.tools("check", fails=True).stderr
    bands.write_text(bands.read_text().replace("\nNEW = 1\n", ""))
    script.write_text(SCRIPT.replace('{"slope": 2, "of": "b"}', '{"slope": 3, "of": "b"}'))
    assert "has other configurations" in small_course.tools("check", fails=True).stderr

    # The weekly run sees a result that has left its band.
    script.write_text(SCRIPT.replace("* seed for", "* (seed + 7) for"))
    assert "Studies came out differently" in small_course.tools("studies", "--again", fails=True).stderr
    assert json.loads(result.read_text()) == content


def test_imports_are_followed_through_the_package(tmp_path):
    script = tmp_path / "s.py"
    script.write_text("from signalprop import saturation\n")
    names = {path.name for path in studies.imported(script)}
    assert {"saturation.py", "theory.py", "ensemble.py", "activations.py", "bands.py"} <= names
