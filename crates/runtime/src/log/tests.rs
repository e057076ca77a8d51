//! Writer and reader together, on files.

use std::path::{Path, PathBuf};

use super::*;
use crate::plan::LogPlan;
use crate::protocol::{STDERR, STDOUT};

/// A directory that goes away.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        let dir = std::env::temp_dir().join(format!("budu-log-{}", budu_spec::Id::random().as_str()));
        std::fs::create_dir_all(&dir).unwrap();
        Dir(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn plan(dir: &Dir, format: LogFormat, max_size: Option<u64>, max_file: u32) -> LogPlan {
    LogPlan { path: dir.0.join("log"), format, max_size, max_file, ..LogPlan::default() }
}

fn rest(reader: &mut Reader) -> Vec<(u8, String)> {
    let mut all = Vec::new();
    loop {
        while let Some(entry) = reader.next_entry() {
            all.push((entry.stream, String::from_utf8_lossy(&entry.line).into_owned()));
        }
        if !reader.fill().unwrap() && !reader.refresh().unwrap() {
            return all;
        }
    }
}

fn texts(path: &Path, format: LogFormat, start: Start) -> Vec<String> {
    rest(&mut Reader::open(path, format, start).unwrap()).into_iter().map(|(_, text)| text).collect()
}

const ALL: Start = Start::Search { since: None, tail: None };

#[test]
fn lines_are_kept_whole_and_long_ones_split() {
    for format in [LogFormat::Json, LogFormat::Local] {
        let dir = Dir::new();
        let plan = plan(&dir, format, None, 1);
        let mut log = Log::open(&plan).unwrap();
        log.write(None, STDOUT, b"one\ntw");
        log.write(None, STDERR, b"warn \"!\"\n");
        log.write(None, STDOUT, b"o\n");
        log.write(None, STDOUT, &[b'x'; MAX_LINE + 1]);
        log.write(None, STDOUT, b"y\nlast");
        log.finish();
        let mut reader = Reader::open(&plan.path, format, ALL).unwrap();
        let entries = rest(&mut reader);
        let owned = |kind, text: &str| (kind, text.to_owned());
        assert_eq!(entries[..3], [owned(STDOUT, "one\n"), owned(STDERR, "warn \"!\"\n"), owned(STDOUT, "two\n")]);
        assert_eq!(entries[3].1.len(), MAX_LINE);
        assert_eq!(entries[4..], [owned(STDOUT, "xy\n"), owned(STDOUT, "last")]);
    }
}

#[test]
fn long_lines_are_split_between_characters() {
    // A character of each length over the place of the split, at each of its bytes.
    let places = ["é", "€", "🦀"].into_iter().flat_map(|letter| (1..letter.len()).map(move |before| (letter, before)));
    for (letter, before) in places {
        let line = format!("{}{letter}end\n", "x".repeat(MAX_LINE - before));
        // Said at once, and in pieces of which one ends shortly before the line is too long.
        for at in [0, MAX_LINE - 3, MAX_LINE - 2, MAX_LINE - 1] {
            let dir = Dir::new();
            let plan = plan(&dir, LogFormat::Json, None, 1);
            let mut log = Log::open(&plan).unwrap();
            for piece in [&line.as_bytes()[..at], &line.as_bytes()[at..]] {
                log.write(None, STDOUT, piece);
            }
            let entries = texts(&plan.path, LogFormat::Json, ALL);
            assert_eq!(entries, [&line[..MAX_LINE - before], &line[MAX_LINE - before..]], "{letter} {before} {at}");
        }
    }
}

#[test]
fn what_is_no_text_is_split_nevertheless() {
    let dir = Dir::new();
    let plan = plan(&dir, LogFormat::Json, None, 1);
    let mut log = Log::open(&plan).unwrap();
    log.write(None, STDOUT, &[0xf0; 2 * MAX_LINE]);
    log.write(None, STDOUT, b"\n");
    let lengths: Vec<usize> =
        texts(&plan.path, LogFormat::Json, ALL).iter().map(|text| text.trim_end().chars().count()).collect();
    assert_eq!(lengths.iter().sum::<usize>(), 2 * MAX_LINE, "{lengths:?}");
}

/// Whoever renames them may be killed between two of them.
#[test]
fn files_before_one_that_is_missing_are_read() {
    let dir = Dir::new();
    let plan = plan(&dir, LogFormat::Json, Some(400), 4);
    let mut log = Log::open(&plan).unwrap();
    for n in 0..40 {
        log.write(None, STDOUT, format!("line {n}\n").as_bytes());
    }
    let before = texts(&plan.path, LogFormat::Json, ALL);
    std::fs::remove_file(dir.0.join("log.1")).unwrap();
    let after = texts(&plan.path, LogFormat::Json, ALL);
    assert!(after.len() < before.len() && after[0] == before[0] && after.last() == before.last(), "{after:?}");
}

#[test]
fn without_its_index_a_log_keeps_what_was_rotated() {
    let dir = Dir::new();
    let plan = plan(&dir, LogFormat::Json, Some(400), 4);
    let lines = |log: &mut Log, from: u32, to: u32| {
        for n in from..to {
            log.write(None, STDOUT, format!("line {n}\n").as_bytes());
        }
    };
    let mut log = Log::open(&plan).unwrap();
    while !dir.0.join("log.2").exists() {
        lines(&mut log, 0, 1);
    }
    drop(log);
    let before = texts(&plan.path, LogFormat::Json, ALL);
    std::fs::write(dir.0.join("log.index"), "nonsense").unwrap();
    assert_eq!(texts(&plan.path, LogFormat::Json, ALL), before);
    let mut log = Log::open(&plan).unwrap();
    while !dir.0.join("log.3").exists() {
        lines(&mut log, 1, 2);
    }
    let after = texts(&plan.path, LogFormat::Json, ALL);
    assert_eq!(after[..before.len()], before);
    assert!(after.len() > before.len());
}

#[test]
fn pieces_say_which_they_are() {
    let dir = Dir::new();
    let plan = plan(&dir, LogFormat::Local, None, 1);
    let mut log = Log::open(&plan).unwrap();
    log.write(None, STDOUT, &[b'x'; 2 * MAX_LINE + 5]);
    log.write(None, STDOUT, b"\nshort\n");
    let mut reader = Reader::open(&plan.path, LogFormat::Local, ALL).unwrap();
    assert!(reader.fill().unwrap());
    let mut pieces = Vec::new();
    while let Some(entry) = reader.next_entry() {
        pieces.push(entry.partial);
    }
    let id = pieces[0].as_ref().unwrap().id.clone();
    assert_eq!(id.len(), 64);
    let piece = |ordinal, last| Some(Partial { id: id.clone(), ordinal, last });
    assert_eq!(pieces, [piece(1, false), piece(2, false), piece(3, true), None]);
}

#[test]
fn rotation_keeps_the_number_of_files_asked_for_and_readers_follow() {
    for (format, max_file) in [(LogFormat::Json, 3), (LogFormat::Local, 3), (LogFormat::Json, 1)] {
        let dir = Dir::new();
        let plan = plan(&dir, format, Some(400), max_file);
        let mut log = Log::open(&plan).unwrap();
        let mut reader = Reader::open(&plan.path, format, ALL).unwrap();
        let mut seen = Vec::new();
        for n in 0..40 {
            log.write(None, STDOUT, format!("line {n}\n").as_bytes());
            seen.extend(rest(&mut reader).into_iter().map(|(_, text)| text));
        }
        let want: Vec<String> = (0..40).map(|n| format!("line {n}\n")).collect();
        assert_eq!(seen, want, "{format:?}");
        let mut names: Vec<_> = std::fs::read_dir(&dir.0).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        let wanted: &[&str] =
            if max_file == 1 { &["log", "log.index"] } else { &["log", "log.1", "log.2", "log.index"] };
        assert_eq!(names, wanted);
        let kept = texts(&plan.path, format, ALL);
        assert!(want.ends_with(&kept) && !kept.is_empty(), "{kept:?}");
        for tail in 0..kept.len() + 2 {
            let start = Start::Search { since: None, tail: Some(tail as u64) };
            let found = texts(&plan.path, format, start);
            assert_eq!(found, kept[kept.len().saturating_sub(tail)..], "{format:?} tail {tail}");
        }
    }
}

#[test]
fn a_position_is_found_again() {
    let dir = Dir::new();
    let plan = plan(&dir, LogFormat::Local, Some(500), 4);
    let mut log = Log::open(&plan).unwrap();
    for n in 0..30 {
        log.write(None, STDOUT, format!("line {n}\n").as_bytes());
    }
    let mut reader = Reader::open(&plan.path, LogFormat::Local, ALL).unwrap();
    let kept = texts(&plan.path, LogFormat::Local, ALL);
    for at in 0..kept.len() {
        while reader.skip(1).unwrap() == 0 {}
        let found = texts(&plan.path, LogFormat::Local, Start::At(reader.position()));
        assert_eq!(found, kept[at + 1..]);
    }
}

#[test]
fn marks_lead_to_the_lines_asked_for() {
    for format in [LogFormat::Json, LogFormat::Local] {
        let dir = Dir::new();
        let plan = plan(&dir, format, Some(3 * BLOCK), 5);
        let mut log = Log::open(&plan).unwrap();
        let filler = "x".repeat(200);
        for n in 0..12_000u32 {
            log.write(None, STDOUT, format!("{n} {filler}\n").as_bytes());
            if n == 6_000 {
                // A container that is started again goes on with its log.
                log.finish();
                log = Log::open(&plan).unwrap();
            }
        }
        let mut all = Vec::new();
        let mut reader = Reader::open(&plan.path, format, ALL).unwrap();
        loop {
            while let Some(entry) = reader.next_entry() {
                all.push((entry.time, entry.line.into_owned()));
            }
            if !reader.fill().unwrap() {
                break;
            }
        }
        assert!(all.len() > 5_000);
        let number = |line: &[u8]| String::from_utf8_lossy(line).split(' ').next().unwrap().parse::<u32>().unwrap();
        assert_eq!(number(&all.last().unwrap().1), 11_999);
        assert!(all.windows(2).all(|pair| pair[0].0 < pair[1].0 && number(&pair[0].1) + 1 == number(&pair[1].1)));
        for at in (0..all.len()).step_by(977) {
            let start = Start::Search { since: Some(all[at].0), tail: None };
            let mut reader = Reader::open(&plan.path, format, start).unwrap();
            let mut passed = 0;
            loop {
                match reader.next_entry() {
                    Some(entry) if entry.time >= all[at].0 => break assert_eq!(*entry.line, all[at].1),
                    Some(_) => passed += 1,
                    None => assert!(reader.fill().unwrap()),
                }
            }
            assert!(passed < 3_000, "{passed} records read in vain");
            let tail = (all.len() - at) as u64;
            let mut reader = Reader::open(&plan.path, format, Start::Search { since: None, tail: Some(tail) }).unwrap();
            reader.fill().unwrap();
            assert_eq!(*reader.next_entry().unwrap().line, all[at].1);
        }
    }
}

#[test]
fn what_a_crash_tore_is_mended() {
    for format in [LogFormat::Json, LogFormat::Local] {
        let dir = Dir::new();
        let plan = plan(&dir, format, None, 1);
        Log::open(&plan).unwrap().write(None, STDOUT, b"one\ntwo\n");
        let length = std::fs::metadata(&plan.path).unwrap().len();
        std::fs::File::options().write(true).open(&plan.path).unwrap().set_len(length - 3).unwrap();
        Log::open(&plan).unwrap().write(None, STDOUT, b"three\n");
        assert_eq!(texts(&plan.path, format, ALL), ["one\n", "three\n"], "{format:?}");
    }
}

#[test]
fn a_log_that_was_emptied_goes_on() {
    let dir = Dir::new();
    let plan = plan(&dir, LogFormat::Json, None, 1);
    let mut log = Log::open(&plan).unwrap();
    let mut reader = Reader::open(&plan.path, LogFormat::Json, ALL).unwrap();
    log.write(None, STDOUT, &b"before\n".repeat(10));
    assert_eq!(rest(&mut reader).len(), 10);
    std::fs::File::options().write(true).open(&plan.path).unwrap().set_len(0).unwrap();
    log.write(None, STDOUT, b"after\n");
    assert_eq!(rest(&mut reader), [(STDOUT, "after\n".to_owned())]);
    assert_eq!(texts(&plan.path, LogFormat::Json, ALL), ["after\n"]);
}

#[test]
fn files_are_held_until_they_are_sent() {
    let dir = Dir::new();
    let plan = LogPlan { hold: true, ..plan(&dir, LogFormat::Local, Some(300), 2) };
    let mut log = Log::open(&plan).unwrap();
    let mut sent = Acknowledged::of(&plan.path);
    let mut written = 0;
    while !log.is_blocked() {
        log.write(None, STDOUT, format!("line {written}\n").as_bytes());
        written += 1;
        assert!(written < 100);
    }
    assert_eq!(texts(&plan.path, LogFormat::Local, ALL).len(), written, "nothing was given up");
    sent.note(Position { segment: 2, offset: 0 }).unwrap();
    assert!(!log.is_blocked());
    log.write(None, STDOUT, b"more\n");
    assert!(texts(&plan.path, LogFormat::Local, ALL).len() <= written);
    assert_eq!(Acknowledged::of(&plan.path).position(), Position { segment: 2, offset: 0 });
}

#[test]
fn ten_gigabytes_answer_at_once() {
    // A file of that size with lines where they are looked for and holes elsewhere; its index is whole.
    const SIZE: u64 = 10 << 30;
    const LINES: u64 = BLOCK / 128;
    let dir = Dir::new();
    let path = dir.0.join("log");
    let file = std::fs::File::options().write(true).create(true).truncate(true).open(&path).unwrap();
    file.set_len(SIZE).unwrap();
    let blocks = SIZE / BLOCK;
    let line = |block: u64, line: u64| {
        let number = block * LINES + line;
        let time = budu_spec::units::rfc3339_nano(jiff::Timestamp::from_second(number.cast_signed()).unwrap());
        format!("{{\"log\":\"{number:>67}\\n\",\"stream\":\"stdout\",\"time\":\"{time}\"}}\n")
    };
    assert_eq!(line(0, 0).len(), 128);
    let wanted = [1, blocks / 2, blocks - 1];
    for block in wanted {
        let text: String = (0..LINES).map(|n| line(block, n)).collect();
        std::os::unix::fs::FileExt::write_all_at(&file, text.as_bytes(), block * BLOCK).unwrap();
    }
    let marks = (0..blocks).map(|block| index::Mark {
        segment: 1,
        offset: block * BLOCK,
        entries: block * LINES,
        latest: (block * LINES) as i64 * 1_000_000_000 - 1_000_000_000,
    });
    index::Index { segment: 1, rotating: false, marks: marks.collect() }.replace(&path).unwrap();
    for block in wanted {
        let number = block * LINES + 1000;
        let by_time = Start::Search { since: Some(number as i64 * 1_000_000_000), tail: None };
        let by_count = Start::Search { since: None, tail: Some(blocks * LINES - number) };
        for start in [by_time, by_count] {
            let begin = std::time::Instant::now();
            let mut reader = Reader::open(&path, LogFormat::Json, start).unwrap();
            let mut passed = 0;
            loop {
                match reader.next_entry() {
                    Some(entry) if entry.time >= number as i64 * 1_000_000_000 => break,
                    Some(_) => passed += 1,
                    None => assert!(reader.fill().unwrap()),
                }
            }
            println!("10 GB, {start:?}: {:?}", begin.elapsed());
            assert!(passed <= LINES, "{passed} records read in vain");
        }
    }
}
