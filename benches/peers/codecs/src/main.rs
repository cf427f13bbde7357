//! The client's codecs beside the C libraries, in one process and in turns. See `HELP`.

mod c;
mod corpus;

use std::hint::black_box;
use std::time::Duration;

use c::Library;
use cpu_time::ThreadTime;
use milena::record::{Compression, Compressor, Decompressor, Limits};

const HELP: &str = "\
The codecs of milena beside C zstd, zlib-ng and liblz4: both ways, in turns, with contexts and buffers kept.

    cargo run --release -p codecs -- [--rounds N] [--only WORD]... [--check]

    --rounds N    rounds of each pair, 11 unless told; a round is some 20 ms of each side
    --only WORD   only rows that hold the word: zstd, gzip, lz4, json, repetitive, random, 1M, 16K, 1 (a level) ...
    --check       exit with 1 if a ratio is below its budget

Columns: MB/s are of uncompressed bytes, medians over the rounds, by the CPU time of the thread. `ratio` is our speed by
that of C, the median of the rounds' own ratios, with the lowest and the highest behind it. `size` is our output by that
of C. Before a row is timed, each side reads what the other wrote. Budgets, for json: zstd and gzip 0.9 both ways, lz4
0.95 compressing and 0.75 decompressing.
";

const SIZES: [(&str, usize, usize); 2] = [("1M", 1 << 20, 4), ("16K", 16 << 10, 32)];
const CASES: [(Compression, i32); 5] = [
    (Compression::Zstd, 3),
    (Compression::Zstd, 1),
    (Compression::Gzip, 6),
    (Compression::Gzip, 1),
    (Compression::Lz4, 1),
];
const ROUND: Duration = Duration::from_millis(20);

fn budget(codec: Compression, compressing: bool) -> f64 {
    match (codec, compressing) {
        (Compression::Lz4, true) => 0.95,
        (Compression::Lz4, false) => 0.75,
        _ => 0.9,
    }
}

struct Options {
    rounds: usize,
    only: Vec<String>,
    check: bool,
}

fn options() -> Options {
    let mut options = Options { rounds: 11, only: Vec::new(), check: false };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| fail(&format!("{arg} needs a value")));
        match arg.as_str() {
            "--help" | "-h" => {
                print!("{HELP}");
                std::process::exit(0);
            }
            "--rounds" => options.rounds = value().parse().unwrap_or_else(|_| fail("--rounds needs a number")),
            "--only" => options.only.push(value()),
            "--check" => options.check = true,
            _ => fail(&format!("{arg} is unknown")),
        }
    }
    options
}

fn fail(why: &str) -> ! {
    eprintln!("{why}\n\n{HELP}");
    std::process::exit(2)
}

fn main() {
    let options = options();
    println!(
        "{:<6}{:>3} {:<11}{:<5}{:<11} {:>8} {:>8}   {:>5} {:<14}{:>6}",
        "codec", "lvl", "input", "size", "", "milena", "C", "ratio", "[low, high]", "size"
    );
    let mut missed = 0;
    for (codec, level) in CASES {
        for kind in corpus::KINDS {
            for (size_name, size, count) in SIZES {
                let row = [codec.to_string(), level.to_string(), kind.to_string(), size_name.to_string()];
                if options.only.iter().all(|word| row.contains(word)) {
                    missed += pair(codec, level, kind, size_name, &corpus::inputs(kind, size, count), options.rounds);
                }
            }
        }
    }
    if options.check && missed > 0 {
        println!("{missed} below their budgets");
        std::process::exit(1);
    }
}

/// Both directions of one codec on one corpus; how many of them miss their budget.
fn pair(codec: Compression, level: i32, kind: &str, size_name: &str, inputs: &[Vec<u8>], rounds: usize) -> usize {
    let mut library: Box<dyn Library> = match codec {
        Compression::Zstd => Box::new(c::Zstd::new(level)),
        Compression::Gzip => Box::new(c::Gzip::new(level)),
        _ => Box::new(c::Lz4::new(level)),
    };
    let (mut compressor, mut decompressor) = (Compressor::new(), Decompressor::new());
    let largest = inputs.iter().map(Vec::len).max().unwrap_or_default();
    // Room for one whole block more: liblz4 then decodes to where it is wanted, and not by a buffer of its own.
    let mut buffer = vec![0; largest + largest / 8 + (128 << 10)];

    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    for input in inputs {
        let packed = compressor.compress(codec, Some(level), input).expect("compresses").to_vec();
        let size = library.decompress(&packed, &mut buffer);
        assert!(buffer[..size] == input[..], "{codec} {level}: C reads something else than milena wrote");
        ours.push(packed);
        let size = library.compress(input, &mut buffer);
        let read = decompressor.decompress(codec, &buffer[..size], Limits::default()).expect("decompresses");
        assert!(read[..] == input[..], "{codec} {level}: milena reads something else than C wrote");
        theirs.push(buffer[..size].to_vec());
    }
    let total = |all: &[Vec<u8>]| all.iter().map(Vec::len).sum::<usize>();
    let size_ratio = total(&ours) as f64 / total(&theirs) as f64;

    let mut missed = 0;
    for compressing in [true, false] {
        let timed = if compressing {
            turns(
                rounds,
                inputs.len(),
                &mut |n| compressor.compress(codec, Some(level), black_box(&inputs[n])).map_or(0, <[u8]>::len),
                &mut |n| library.compress(black_box(&inputs[n]), &mut buffer),
            )
        } else {
            // The same bytes for both: those of C.
            turns(
                rounds,
                inputs.len(),
                &mut |n| {
                    let read = decompressor.decompress(codec, black_box(&theirs[n]), Limits::default());
                    read.expect("decompresses").len()
                },
                &mut |n| library.decompress(black_box(&theirs[n]), &mut buffer),
            )
        };
        let speed = |nanos: f64| largest as f64 * 1e3 / nanos;
        let mut ratios: Vec<f64> = timed.iter().map(|(ours, theirs)| theirs / ours).collect();
        let ratio = median(&mut ratios);
        let (ours, theirs): (Vec<f64>, Vec<f64>) = timed.into_iter().unzip();
        let too_slow = kind == "json" && ratio < budget(codec, compressing);
        missed += usize::from(too_slow);
        println!(
            "{:<6}{level:>3} {kind:<11}{size_name:<5}{:<11} {:>8.0} {:>8.0}   {ratio:>5.2} {:<14}{size_ratio:>6.3}{}",
            codec.to_string(),
            if compressing { "compress" } else { "decompress" },
            speed(median(&mut { ours })),
            speed(median(&mut { theirs })),
            format!("[{:.2}, {:.2}]", ratios[0], ratios[ratios.len() - 1]),
            if too_slow { "  below its budget" } else { "" },
        );
    }
    missed
}

/// Nanoseconds of one call of each side, round by round: a round is one side and then the other, who is first in turn.
fn turns(
    rounds: usize,
    inputs: usize,
    ours: &mut dyn FnMut(usize) -> usize,
    theirs: &mut dyn FnMut(usize) -> usize,
) -> Vec<(f64, f64)> {
    let once = time(ours, inputs, 1) + time(theirs, inputs, 1);
    let passes = (2.0 * ROUND.as_nanos() as f64 / (once * inputs as f64)).ceil().max(1.0) as usize;
    // Warm caches and branches.
    time(ours, inputs, passes);
    time(theirs, inputs, passes);
    let round = |n: usize| {
        if n % 2 == 0 {
            let first = time(ours, inputs, passes);
            (first, time(theirs, inputs, passes))
        } else {
            let first = time(theirs, inputs, passes);
            (time(ours, inputs, passes), first)
        }
    };
    (0..rounds).map(round).collect()
}

fn time(run: &mut dyn FnMut(usize) -> usize, inputs: usize, passes: usize) -> f64 {
    let start = ThreadTime::now();
    for _ in 0..passes {
        for n in 0..inputs {
            black_box(run(n));
        }
    }
    start.elapsed().as_nanos() as f64 / (passes * inputs) as f64
}

/// Sorts them, too.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
