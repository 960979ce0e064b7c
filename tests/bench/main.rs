//! What Airlock costs, beside what the same thing costs without it:
//!
//! ```console
//! $ cargo bench -p airlock-tests            # everything, 15 rounds
//! $ cargo bench -p airlock-tests -- 5       # 5 rounds
//! ```
//!
//! Interleaved runs, so that a machine that slows down slows everything: each round measures every
//! line once, what is reckoned from two lines is reckoned within a round, and the table tells the
//! least, the median and the most over the rounds. On a busy machine the least is nearest to what
//! a thing costs by itself.

mod measure; // one round of everything
mod credentials; // what a run pays for its login
mod table; // medians, and how they are told

use airlock_tests::engine::Engine;
use airlock_tests::{images, rig};

#[tokio::main]
async fn main() {
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(15);
    let engine = Engine::connect().await;
    images::ready(&engine).await;
    let mut table = table::Table::default();
    table.size(table::SANDBOX_SIZE, bytes_of(rig::extracted_sandbox().await));
    table.size(table::HOST_SIZE, bytes_of(rig::airlock().await));
    let bench = measure::Bench::new(engine).await;
    for _ in 0..rounds {
        bench.round(&mut table).await;
    }
    table.print();
}

fn bytes_of(file: &std::path::Path) -> u64 {
    std::fs::metadata(file).expect("it was just built").len()
}
