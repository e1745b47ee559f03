use integratedb_template::analyze;
fn main() {
    let mut s: u64 = std::env::args().nth(1).unwrap().parse().unwrap();
    let mut next = || {
        s ^= s << 13;
        s ^= s >> 7;
        s ^= s << 17;
        s
    };
    let p = [
        "between ",
        "case ",
        "extract",
        "as ",
        "case as ",
        "exists ",
        "lateral ",
        "date ",
        "with x as ",
        "(",
        "from ",
        "row",
        "interval ",
        "a ",
        "not ",
        "array",
    ];
    let start = std::time::Instant::now();
    let mut best: Vec<usize> = vec![1];
    let mut worst = 0u128;
    // hill climb on time
    while start.elapsed().as_secs() < 60 {
        let mut c = best.clone();
        for _ in 0..1 + next() % 4 {
            let at = (next() as usize) % (c.len() + 1);
            match next() % 4 {
                0 if c.len() > 1 => {
                    c.remove(at.min(c.len() - 1));
                }
                1 if at < c.len() => c[at] = (next() % p.len() as u64) as usize,
                _ => {
                    let x = (next() % p.len() as u64) as usize;
                    c.insert(at, x);
                }
            }
        }
        if next() % 10 == 0 {
            let d = c.clone();
            c.extend(d);
        }
        if c.len() > 150 {
            c.truncate(150);
        }
        let q = format!("select {}", c.iter().map(|&i| p[i]).collect::<String>());
        let t = std::time::Instant::now();
        let _ = analyze(&q);
        let e = t.elapsed().as_micros();
        if e > worst {
            worst = e;
            best = c;
            if e > 50_000 {
                println!("{e}us {q}");
            }
            if e > 15_000_000 {
                return;
            }
        }
    }
    println!("{worst}us");
}
