use integratedb_template::Shape;
fn main() {
    let mut a = std::env::args().skip(1).peekable();
    if a.peek().is_some() {
        for q in a {
            println!("{:#?}", Shape::of(q.as_bytes()));
        }
        return;
    }
    let q60 = "SELECT id, name, email FROM users WHERE id = 4711 LIMIT 1   ";
    let mut q1k = String::from(
        "SELECT o.id, o.total, c.name FROM orders o JOIN customers c ON c.id = o.customer_id WHERE o.status IN ('new','paid','sent') AND o.created > '2024-01-01' AND (o.total > 100.5 OR c.vip = true) ",
    );
    while q1k.len() < 1000 {
        q1k.push_str("AND EXISTS (SELECT 1 FROM items i WHERE i.order_id = o.id AND i.sku = 'abc-123' AND coalesce(i.qty, 0) > 3) ");
    }
    q1k.truncate(1024);
    for q in [q60, &q1k] {
        for _ in 0..3 {
            let n = 200_000;
            let t = std::time::Instant::now();
            for _ in 0..n {
                std::hint::black_box(Shape::of(std::hint::black_box(q.as_bytes())));
            }
            println!("{} bytes: {:?}", q.len(), t.elapsed() / n);
        }
    }
    for (n, q) in [
        ("signs", "-".repeat(1_000_00).replace("--", "- ")),
        ("plusminus", "+-".repeat(500_000)),
        ("open", "(".repeat(1_000_000)),
        ("list", "(1,".repeat(300_000)),
        ("cfg", "set_config('a',".repeat(100_000)),
        ("dollar", "$a".repeat(500_000)),
        ("dollar2", format!("$a$ {}", "$a".repeat(500_000))),
        ("comments", "/*".repeat(500_000)),
        ("rows", format!("insert into t values {}", "(1,default),".repeat(100_000))),
        ("quotes", "'a'\n--\n".repeat(150_000)),
        ("stmts", "set a = b;".repeat(100_000)),
        ("rowslists", format!("values {}", "(1),(1,1,1,a),".repeat(100_000))),
        ("signs2", "- ".repeat(500_000)),
        ("bracket", "[1,".repeat(300_000)),
        ("dots", "set a.".repeat(160_000)),
        ("d2", format!("set {}", "a.".repeat(500_000))),
        ("values", "values (".repeat(120_000)),
    ] {
        let t = std::time::Instant::now();
        std::hint::black_box(Shape::of(q.as_bytes()));
        println!("{n} {} {:?}", q.len(), t.elapsed());
    }
}
