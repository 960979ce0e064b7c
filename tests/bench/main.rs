//! What Airlock costs, beside what the same thing costs without it:
//!
//! ```console
//! $ cargo bench -p airlock-tests            # everything, 15 rounds
//! $ cargo bench -p airlock-tests -- 5       # 5 rounds
//! ```
//!
//! Medians of interleaved runs, so that a machine that slows down slows everything: each round
//! measures every line once. Ratios are of two medians of one run of this program.

mod measure; // one round of everything
mod table; // medians, and how they are told

use airlock_tests::engine::Engine;
use airlock_tests::{images, rig};

#[tokio::main]
async fn main() {
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(15);
    let engine = Engine::connect().await;
    images::ready(&engine).await;
    let mut table = table::Table::default();
    table.size("sandbox on disk", bytes_of(rig::extracted_sandbox().await));
    table.size("airlock on disk", bytes_of(rig::airlock().await));
    // The first run fills caches and the sandbox's volume; nobody counts it.
    drop(measure::run(&engine, 0, 0).await);
    for _ in 0..rounds {
        measure::round(&engine, &mut table).await;
    }
    table.print();
}

fn bytes_of(file: &std::path::Path) -> u64 {
    std::fs::metadata(file).map(|metadata| metadata.len()).unwrap_or(0)
}
