"""The files that Docker and Elastic Beanstalk read, held to what those programs do with them.

What they build and run is in tests/container/.
"""

import fnmatch
import io
import json
import re
import subprocess
import zipfile

import pytest
from conftest import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
EB_LINE = "# Elastic Beanstalk Files"


def git(*words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=True).stdout


def copied() -> list[str]:
    """What the Dockerfile copies from this folder, as patterns."""
    lines = re.findall(r"^COPY (\[.*\])$", DOCKERFILE, re.MULTILINE)
    return [source for line in lines for source in json.loads(line)[:-1]]


def settings(text: str) -> dict[tuple[str, str], str]:
    """The value of each namespace and option of a file in .ebextensions; any other line is an error."""
    found, namespace = {}, ""
    for line in text.splitlines():
        if match := re.fullmatch(r"  (aws:[\w:]+):", line):
            namespace = match[1]
        elif match := re.fullmatch(r"    (\w+): (\S+)", line):
            assert (namespace, match[1]) not in found, line
            found[namespace, match[1]] = match[2]
        else:
            assert re.fullmatch(r"option_settings:| *#.*|", line), line
    return found


def test_the_image_and_the_makefile_install_the_same_pipenv():
    [image] = re.findall(r"pip install pipenv==(\S+)", DOCKERFILE)
    [makefile] = re.findall(r"^PIPENV_VERSION := (\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert image == makefile


def test_eb_local_run_finds_the_base_image_and_the_port():
    # As eb does it: the first line that starts with the word, and its second word.
    first = {
        word: next(line for line in DOCKERFILE.splitlines() if line.startswith(word)) for word in ("FROM", "EXPOSE")
    }
    assert first["FROM"].split()[1] == "python:3.11-slim"
    assert first["EXPOSE"].split()[1] == "9696"


def test_the_dockerfile_needs_no_buildkit():
    assert "# syntax" not in DOCKERFILE
    assert not re.findall(r"--(mount|link|chmod|parents|exclude)|<<", DOCKERFILE)


def test_the_builder_is_sent_what_is_copied_and_nothing_else():
    rules = [rule for rule in (ROOT / ".dockerignore").read_text().splitlines() if not rule.startswith("#")]
    assert rules[0] == "*"
    assert sorted(rule for rule in rules if rule.startswith("!")) == sorted(f"!{source}" for source in copied())
    assert not [rule for rule in rules[1:] if not rule.startswith("!")]


def test_the_source_bundle_holds_what_is_copied_and_what_elastic_beanstalk_reads():
    # `eb deploy` uploads `git archive HEAD`; this is the same of what is to be committed.
    archive = git("archive", "--format=zip", git("write-tree").decode().strip())
    bundle = {name for name in zipfile.ZipFile(io.BytesIO(archive)).namelist() if not name.endswith("/")}
    tracked = git("ls-files").decode().splitlines()
    needed = ["Dockerfile", ".dockerignore", ".ebextensions/*.config", ".platform/nginx/conf.d/*.conf", *copied()]
    # A star stands for no slash.
    patterns = [(pattern, pattern.count("/")) for pattern in needed]
    expected = {
        name
        for name in tracked
        if any(name.count("/") == slashes and fnmatch.fnmatch(name, pattern) for pattern, slashes in patterns)
    }
    assert bundle == expected
    for elsewhere in ("campaign", "compare", "score", "training"):
        assert not any(name.startswith(f"serving/{elsewhere}") for name in bundle)
    assert not any(name.startswith("docs/") or name == "Procfile" for name in bundle)  # which other hosts read
    assert {"predict.py", "serving/model/file.py", "model_C=1.0.bin", ".ebextensions/environment.config"} <= bundle


@pytest.mark.parametrize("file", [".gitignore", ".dockerignore"])
def test_eb_appends_nothing_to_the_ignored_files(file):
    assert EB_LINE in (ROOT / file).read_text().splitlines()


def test_the_settings_of_eb_are_committed_and_its_working_files_are_not():
    def ignored(path):
        return subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT, check=False).returncode == 0

    assert not ignored(".elasticbeanstalk/config.yml")
    assert ignored(".elasticbeanstalk/saved_configs/mine.cfg.yml")
    assert ignored(".elasticbeanstalk/app_versions/app-1.zip")
    assert ignored(".env")
    assert not (ROOT / ".ebignore").exists()  # it would replace git's rules, and ship what git ignores


# Every option that is set, and the page of the Elastic Beanstalk Developer Guide that describes it.
# Those that the CLI sends with `eb create`, and so overrides, are not among them.
GENERAL = "General options for all environments"  # command-options-general.html
DOCUMENTED = {
    ("aws:elasticbeanstalk:environment", "EnvironmentType"): GENERAL,
    ("aws:elasticbeanstalk:environment:process:default", "HealthCheckPath"): GENERAL,
    ("aws:autoscaling:asg", "MinSize"): GENERAL,
    ("aws:autoscaling:asg", "MaxSize"): GENERAL,
    ("aws:autoscaling:trigger", "MeasureName"): GENERAL,
    ("aws:autoscaling:trigger", "Statistic"): GENERAL,
    ("aws:autoscaling:trigger", "Unit"): GENERAL,
    ("aws:autoscaling:trigger", "Period"): GENERAL,
    ("aws:autoscaling:trigger", "BreachDuration"): GENERAL,
    ("aws:autoscaling:trigger", "UpperThreshold"): GENERAL,
    ("aws:autoscaling:trigger", "UpperBreachScaleIncrement"): GENERAL,
    ("aws:autoscaling:trigger", "LowerThreshold"): GENERAL,
    ("aws:autoscaling:trigger", "LowerBreachScaleIncrement"): GENERAL,
    ("aws:ec2:instances", "InstanceTypes"): GENERAL,
    ("aws:autoscaling:launchconfiguration", "DisableIMDSv1"): GENERAL,
    ("aws:elasticbeanstalk:command", "DeploymentPolicy"): GENERAL,
    ("aws:elasticbeanstalk:cloudwatch:logs", "StreamLogs"): GENERAL,
    ("aws:elasticbeanstalk:cloudwatch:logs", "RetentionInDays"): GENERAL,
    # Any name is an option here: the service's own variables.
    ("aws:elasticbeanstalk:application:environment", "SERVING_REQUIRE_KEY"): GENERAL,
    ("aws:elbv2:listener:443", "ListenerEnabled"): GENERAL,
    ("aws:elbv2:listener:443", "Protocol"): GENERAL,
    ("aws:elbv2:listener:443", "SSLPolicy"): GENERAL,
}


def test_every_option_of_ebextensions_is_documented():
    files = sorted((ROOT / ".ebextensions").iterdir())
    assert [file.suffix for file in files] == [".config"] * len(files)  # others are not read
    found = [option for file in files for option in settings(file.read_text())]
    assert sorted(found) == sorted(DOCUMENTED)


def test_the_environment_scales_from_one_instance_to_four_and_is_closed_without_a_key():
    found = settings((ROOT / ".ebextensions/environment.config").read_text())
    assert (found["aws:autoscaling:asg", "MinSize"], found["aws:autoscaling:asg", "MaxSize"]) == ("1", "4")
    assert found["aws:autoscaling:trigger", "MeasureName"] == "CPUUtilization"
    assert found["aws:elasticbeanstalk:environment:process:default", "HealthCheckPath"] == "/health"
    assert found["aws:elasticbeanstalk:application:environment", "SERVING_REQUIRE_KEY"] == "1"


def test_https_is_off_until_the_two_lines_of_the_comment_turn_it_on():
    text = (ROOT / ".ebextensions/https.config").read_text()
    listener = "aws:elbv2:listener:443"
    assert settings(text)[listener, "ListenerEnabled"] == "false"
    lines = re.findall(r"^#     (\w+: \S+)$", text, re.MULTILINE)
    assert len(lines) == 2
    on = settings(text.replace("    ListenerEnabled: false\n", "".join(f"    {line}\n" for line in lines)))
    assert on[listener, "ListenerEnabled"] == "true"
    assert on[listener, "Protocol"] == "HTTPS"
    assert on[listener, "SSLCertificateArns"].startswith("arn:aws:acm:eu-north-1:")


def test_the_settings_of_eb_name_the_platform_in_full():
    lines = (ROOT / ".elasticbeanstalk/config.yml").read_text().splitlines()
    found = {line.strip() for line in lines}  # `eb init` adds to them
    assert found >= {
        "application_name: churn-serving",
        "default_platform: Docker running on 64bit Amazon Linux 2023",
        "default_region: eu-north-1",
        "sc: git",
    }
