//! Streams of random bytes, and of the tar crate.

use super::*;

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn garbage_is_refused_and_never_a_panic(
        at in 0_usize..2500, bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 1..40),
    ) {
        let mut stream = TarBytes::default().file("x", "content").link("y", "x").gone("z").folder("f").end();
        for (offset, byte) in bytes.iter().enumerate() {
            if let Some(place) = stream.get_mut(at + offset) {
                *place = *byte;
            }
        }
        let mut reader = TarReader::new(stream.as_slice());
        let mut buffer = [0; 64];
        while let Ok(Some(header)) = reader.next() {
            let mut left = header.size;
            while left > 0 && reader.content(&mut buffer).is_ok_and(|count| count > 0) {
                left = left.saturating_sub(64);
            }
        }
    }
}

#[tokio::test]
async fn what_the_tar_crate_writes_is_read() {
    let trial = ApplyFixture::new(&["gone", "d/"]);
    let mut tar = tar::Builder::new(Vec::new());
    let long = format!("tree/d/{}/", "n".repeat(150));
    let mut header = tar::Header::new_gnu();
    for (kind, path, content) in [
        (EntryType::Directory, long.as_str(), ""),
        (EntryType::Regular, &format!("{long}{}", "f".repeat(150)), "content"),
        (EntryType::Regular, "gone/gone", ""),
    ] {
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    header.set_entry_type(EntryType::Symlink);
    header.set_size(0);
    tar.append_link(&mut header, "tree/l", "n".repeat(150)).unwrap();
    let set = trial.take(tar.into_inner().unwrap()).await.unwrap();
    let found: Vec<_> = set.changes.iter().map(|it| (it.path.name().len(), it.what())).collect();
    let expected = [
        (150, ChangeStatus::Added),
        (150, ChangeStatus::Added),
        (4, ChangeStatus::Deleted),
        (1, ChangeStatus::Added),
    ];
    assert_eq!(found, expected);
}
