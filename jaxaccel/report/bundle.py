"""`report --bundle`: a folder, and an archive of it, by which others can look into what one record says."""

import json
import os
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

import jaxaccel
from jaxaccel.cli.commands import require_cores, say_waiting
from jaxaccel.cli.identify import contents, sources
from jaxaccel.cli.record_arguments import choose
from jaxaccel.cli.spelling import as_typed, root_of, words_of
from jaxaccel.process.saying import say, tell, warn
from jaxaccel.records import CPU_CORES, MADE_BY_CODE, Arm, Record, escape
from jaxaccel.records.errors import BadInputError
from jaxaccel.records.function_names import file_of, folders_of
from jaxaccel.records.messages import Dump, Dumped, Failure, Started
from jaxaccel.records.redact import all_without_secrets, without_places
from jaxaccel.records.redact.outlets import scrub
from jaxaccel.records.source import OLD_SOURCE, without_source
from jaxaccel.render.words.names import case_name
from jaxaccel.report.arguments import Arguments
from jaxaccel.report.repro import NOT_SET, repro, timed
from jaxaccel.report.settings import PLATFORMS, left_out, speed_settings
from jaxaccel.session.device_locks import DeviceBusyError, hold_devices
from jaxaccel.session.worker_process import Worker

WAIT_S = 600.0  # for another jaxaccel that is measuring on the device
DEVICE = "device"  # of `--only`, beside what tells cases apart
SHOWN = 4  # of the records that are too many
CALLED = ("fn", "args", "reference")  # parameters that name functions, which a worker imports and calls
_HERE = Path(jaxaccel.__file__).parent.parent
# A worker that needs no own code imports nothing from the folder one is in, which may be one from others.
WITHOUT_THIS_FOLDER = {"PYTHONSAFEPATH": "1"} | (
    {}
    if _HERE.name.endswith("-packages")
    else {"PYTHONPATH": os.pathsep.join(filter(None, [str(_HERE), os.environ.get("PYTHONPATH")]))}
)

FILES = {
    "repro.py": "times the program as the record did, without jaxaccel: python repro.py",
    "program.bin": "the program, as jax.export serialises StableHLO (a portable artifact); repro.py runs it",
    "program.json": "what it takes and gives: shapes, types, mean and deviation of the measured numbers",
    "exact.npz": "arguments that go along as they were: those of whole numbers (counts, places, labels)",
    "stablehlo.mlir": "what JAX gives to XLA",
    "hlo_before.txt": "the same as HLO, before XLA optimises it",
    "hlo_after.txt": "after",
    "hlo_repro.txt": "after, of program.bin",
    "trace": "JAX's profiler over ten awaited calls, for tensorboard --logdir trace or ui.perfetto.dev",
    "flags.txt": "settings of XLA and JAX under which the record was made; repro.py sets them",
    "environment.txt": "jax.print_environment_info() when this was written",
    "record.json": "the record, with every sample of it (timings.*.samples_s)",
}


def bundle(records: Sequence[Record], arguments: Arguments) -> bool:
    """Write the bundle of the one record that `--only` leaves, and say where; whether it has all files.

    **Raises** BadInputError where there is not one, or its program can't run here as it did.
    """
    record = the_one(records, arguments.only)
    arm = arm_of(record, arguments)
    first = Path(arguments.new[0])
    parent = arguments.output or (first if first.is_dir() else first.parent)
    words = ["bundle", *case_name(record.case).split(), record.arm.requested]
    folder = parent / escape.file_name([escape.file_name(words), record.case_id[:6]], most=100)
    if folder.exists():
        raise BadInputError(f"`--bundle`: {folder} is there already: remove it, or choose another `--output`")
    try:
        with tempfile.TemporaryDirectory(dir=parent, prefix=".bundle-") as made:
            whole = Path(made) / folder.name
            whole.mkdir()
            absent = {**fill(whole, record, arm), **scrub(whole)}
            archive = Path(made) / "archive"
            pack(whole, archive)
            whole.rename(folder)
            archive.rename(folder.with_name(f"{folder.name}.tar.gz"))
    except OSError as error:
        raise BadInputError(f"`--bundle` can't write to {parent}: {error.strerror or error}") from error
    for name, reason in absent.items():
        warn(f"the bundle has no {name}: {reason}")
    say(f"Bundle: {escape.inert(str(folder))}.tar.gz, unpacked beside it")
    return not absent


def fill(folder: Path, record: Record, arm: Arm) -> dict[str, str]:
    """Write all files; returns which could not be, and why.

    **Raises** BadInputError where the record's device is not here, or its program does not run.
    """
    flags = {
        name: text
        for name, text in record.arm.flags.items()
        if name not in NOT_SET and not name.startswith(MADE_BY_CODE)
    }
    kept = speed_settings(flags)
    dropped = left_out(flags, kept)
    for setting in dropped:
        warn(f"`--bundle` does not set {setting}: it is no known setting of speed")
    cores = int(record.arm.flags[CPU_CORES]) if CPU_CORES in record.arm.flags else None
    if cores is not None:
        require_cores(f"`--bundle`: the record's {CPU_CORES}", cores)
    variables = {name: text for name, text in kept.items() if name != PLATFORMS}
    variables |= {} if own_code(record) else WITHOUT_THIS_FOLDER

    try:
        with (
            hold_devices([arm.device], wait_s=WAIT_S, waiting=say_waiting),
            Worker(arm.device, variables=variables, cores=cores) as worker,
        ):
            notes = [*differences(record, worker.ready())]
            reply = worker.ask(Dump(arm=arm, folder=str(folder.absolute())))
    except DeviceBusyError as error:
        raise BadInputError(
            f"`--bundle`: another jaxaccel has been measuring on the {arm.device} for {WAIT_S:.0f} s: "
            "try again later"
        ) from error
    if isinstance(reply, Failure):
        why = as_typed(reply.error.message, words_of(record))
        raise BadInputError(f"`--bundle`: {record.case} does not run here: {why}")
    if not isinstance(reply, Dumped):
        raise TypeError(f"a worker answered with {type(reply).__name__}")
    if record.code and reply.code and reply.code.digest != record.code.digest:
        raise BadInputError(
            other_code(record, f"{record.code.digest} was measured, here is {reply.code.digest}")
        )
    absent = dict(reply.absent)
    if "program.bin" in absent:
        absent["repro.py"] = "it would have run program.bin"
    else:
        (folder / "repro.py").write_text(repro(record, reply.takes), encoding="utf-8")
    told = [
        f"{name}={escape.inert(without_places(text))}\n" for name, text in sorted(record.arm.flags.items())
    ]
    (folder / "flags.txt").write_text("".join(told), encoding="utf-8")
    plain = all_without_secrets(msgspec.to_builtins(record))
    (folder / "record.json").write_text(without_places(json.dumps(plain)) + "\n", encoding="utf-8")
    text = readme(folder, record, [*notes, *reply.notes], absent)
    (folder / "README.txt").write_text(text, encoding="utf-8")
    return absent


def the_one(records: Sequence[Record], only: Mapping[str, tuple[str, ...]]) -> Record:
    """The record that `--only` leaves, among those that count of each case and device.

    **Raises** BadInputError where there are others, or it has no time that can be taken again.
    """
    from jaxaccel.analyze.machines import standing

    devices = only.get(DEVICE)
    (left,) = choose([records], {name: values for name, values in only.items() if name != DEVICE})
    found = [placed.record for placed in standing(left)]
    if devices:
        found = [record for record in found if record.arm.requested in devices]
    if len(found) != 1:
        named = [f"{case_name(record.case)} on the {record.arm.requested}" for record in found]
        more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
        what = (
            f"{len(found)}: {', '.join(named[:SHOWN])}{more}"
            if found
            else f"none on {' or '.join(devices or ())}"
        )
        raise BadInputError(
            f"`--bundle` is of one record, and there are {what}; name its folder, or choose: "
            "--only size=1024 device=gpu"
        )
    (record,) = found
    if not timed(record):
        why = f"it {record.status}" if not record.ok else "it has neither latency nor throughput"
        raise BadInputError(f"`--bundle` is to take a record's times again, but of {record.case}: {why}")
    return record


def arm_of(record: Record, arguments: Arguments) -> Arm:
    """What was measured, as a worker is asked for it.

    **Raises** BadInputError where nothing here is known by this name, where it is no longer what was
    measured, and where it is own code that nobody has allowed to run.
    """
    from jaxaccel.cli.conf_folder import target_of

    case = record.case
    target = target_of(case.workload)
    if target is None:
        raise BadInputError(f"`--bundle`: there is no workload {case.workload!r} in conf/workload")
    runs = own_code(record)
    if not target.startswith("jaxaccel.workloads."):
        runs["workload"] = target
    root = root_of(record)
    if runs:
        told = ", ".join(f"{name}={value} ({place(value, root)})" for name, value in runs.items())
        told += f", from {root}" if root else ""
        flags = " ".join(f"{name}={text}" for name, text in speed_settings(record.arm.flags).items())
        if not arguments.run_own_code:
            raise BadInputError(
                f"`--bundle` would run code that is named by the record: {told}, with {flags or 'no flags'}; "
                "read it, and if you trust it, add --run-own-code"
            )
        tell(f"running {told}, with {flags or 'no flags'}")
    if OLD_SOURCE in case.params:
        found = sources(case.params.get("fn"), case.params.get("args"))
        if found != case.params[OLD_SOURCE]:
            raise BadInputError(
                other_code(record, f"{case.params[OLD_SOURCE]} was measured, here is {found}")
            )
        case = without_source(case)
    return Arm(
        # Of a case that tried several variants, the one that was kept.
        case=replace(case, variant=record.arm.variant or case.variant),
        device=record.arm.requested,
        target=target,
        files=({"file": exported_file(record, arguments.program)} if "sha256" in case.params else {})
        | ({"root": root} if root else {}),
    )


def other_code(record: Record, what: str) -> str:
    """That own code is not what it was."""
    return (
        f"`--bundle`: the code of {record.case.params.get('fn')} is not here as it was measured ({what}): "
        "start this in the folder where the run was started, with that version of it"
    )


def own_code(record: Record) -> dict[str, str]:
    """The functions that measuring a record's case again calls, by the parameter that names each."""
    params = record.case.params
    return {name: str(params[name]) for name in CALLED if params.get(name) is not None}


def place(function: str, root: str | None) -> str:
    """The file that a worker would import for package.module:function; it is not imported for that."""
    module = function.partition(":")[0]
    if not all(map(str.isidentifier, module.split("."))):
        return "which is not here"
    path = file_of(module, [*folders_of(root), *map(Path, sys.path)])
    if path is None:
        return "which is not here"
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def exported_file(record: Record, program: Path | None) -> str:
    """The program of `workload=exported`: records only know its content. No path that they name is opened.

    **Raises** BadInputError where it is not given, or has another content.
    """
    if program is None:
        raise BadInputError(
            f"`--bundle` needs the program of {record.case}: add --program FILE, the file that was measured"
        )
    if not program.is_file():
        raise BadInputError(f"`--program` must be a file that is there, got {str(program)!r}")
    found = contents(str(program), "--program")
    if found != record.case.params["sha256"]:
        raise BadInputError(
            f"`--program` must be the file that was measured, whose digest is "
            f"{record.case.params['sha256']}; {str(program)!r} has {found}"
        )
    return str(program.absolute())


def differences(record: Record, started: Started | Failure) -> Iterator[str]:
    """What is not as it was when the record was made, a line each.

    **Raises** BadInputError where it is another device: what XLA makes for that is another program.
    """
    device, kind = record.arm.requested, record.arm.kind
    if isinstance(started, Failure):
        raise BadInputError(f"`--bundle` needs the record's {device}, {kind}: {started.error.message}")
    if started.arm.kind != kind:
        raise BadInputError(
            f"`--bundle` needs the record's {device}, {kind}, and here it is {started.arm.kind}: make the "
            "bundle on the machine that was measured"
        )
    packages, here = record.environment.get("packages", {}), started.environment.get("packages", {})
    for name in ("jax", "jaxlib", *(name for name in packages if name.endswith("-plugin"))):
        if packages.get(name) != here.get(name):
            yield f"the record was made with {name} {packages.get(name)}, these files with {here.get(name)}"
    names = [*dict.fromkeys([*record.arm.flags, *started.arm.flags])]
    for name in names:
        was, now = record.arm.flags.get(name), started.arm.flags.get(name)
        if was != now and name not in NOT_SET and not name.startswith(MADE_BY_CODE):
            yield without_places(f"the record was made with {name}={was}, these files with {now}")


def readme(folder: Path, record: Record, notes: Sequence[str], absent: Mapping[str, str]) -> str:
    """What is in the bundle, for whoever gets it."""
    command = without_places(record.command)
    turns = ["the record's rounds took turns with those of another device, those of repro.py do not"]
    by = f"jaxaccel {record.jaxaccel_version} at {record.started_at}"
    lines = [
        f"{record.case} on the {record.arm.requested} ({record.arm.kind}), measured by {by}:",
        f"  {command}",
        "",
        *(f"{name}: {what}" for name, what in FILES.items() if (folder / name).exists()),
        "",
        "Of what repro.py does:",
        "- it takes latency and throughput, in as many processes as the record has passes, and holds each",
        "  median against the record's interval: where that of a rerun lands in 95 of 100 cases",
        "- numbers of arguments that are not in exact.npz are random, of the measured mean and deviation",
        *(f"- {note}" for note in [*(turns if record.paired else []), *notes]),
        *(f"- there is no {name}: {reason}" for name, reason in absent.items()),
    ]
    return without_places("\n".join(escape.inert(line) for line in lines) + "\n")


def pack(folder: Path, archive: Path) -> None:
    """The folder as .tar.gz, in which nobody's name is."""

    def nameless(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        return entry

    with tarfile.open(archive, "w:gz") as file:
        file.add(folder, arcname=folder.name, filter=nameless)
