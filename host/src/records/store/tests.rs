//! Sessions are found, locked and recorded; the state directory is closed to others.

use super::*;

fn store() -> (tempfile::TempDir, SessionStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = SessionStore::open(&folder.path().join("state/airlock")).unwrap();
    (folder, store)
}

/// An id that begins with `digits`.
fn id_of(digits: &str) -> String {
    let id = format!("{digits:0<12}40008{:0>15}", "");
    Uuid::try_parse(&id).unwrap().to_string()
}

#[test]
fn the_folder_is_closed_to_others() {
    let (_folder, store) = store();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(store.folder()), 0o700);
    fs::set_permissions(store.folder(), fs::Permissions::from_mode(0o755)).unwrap();
    let again = SessionStore::open(store.folder()).unwrap();
    assert_eq!(mode(store.folder()), 0o700);
    assert_eq!(again.install(), store.install());
    let session = store.create_session().unwrap();
    assert_eq!(mode(session.path()), 0o700);
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(store.folder(), Some(4242), None).unwrap();
        assert!(matches!(SessionStore::open(store.folder()), Err(StoreError::Foreign { .. })));
    }
}

#[test]
fn a_session_is_found_by_a_prefix_that_only_it_has() {
    let (_folder, store) = store();
    for (age, id) in ["abcd0", "abcd1", "1234f"].into_iter().rev().enumerate() {
        let id = id_of(id);
        let path = store.sessions().join(&id);
        fs::create_dir(&path).unwrap();
        drop(SessionFolder::create(id, path.clone()).unwrap());
        let made = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000 - age as u64);
        fs::File::open(path.join("lock")).unwrap().set_modified(made).unwrap();
    }
    assert_eq!(store.find("1234").unwrap().id(), id_of("1234f"));
    assert_eq!(store.find("ABCD1").unwrap().id(), id_of("abcd1"));
    assert_eq!(store.find(&id_of("abcd1")).unwrap().id(), id_of("abcd1"));
    assert_eq!(store.find("abcd1000-0").unwrap().id(), id_of("abcd1"));
    assert!(matches!(store.find("123"), Err(FindError::NoId(_))));
    assert!(matches!(store.find("../x"), Err(FindError::NoId(_))));
    assert!(matches!(store.find("9999"), Err(FindError::None(_))));
    match store.find("abcd") {
        Err(FindError::Ambiguous { sessions, .. }) => {
            assert_eq!(sessions, [id_of("abcd1"), id_of("abcd0")]);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(store.short(&id_of("abcd1")).unwrap(), "abcd1");
    assert_eq!(store.short(&id_of("1234f")).unwrap(), "1234");
    let listed: Vec<_> =
        store.list().unwrap().into_iter().map(|(session, _)| session.id().to_owned()).collect();
    assert_eq!(listed.first().unwrap(), &id_of("1234f"));
}

#[test]
fn a_session_is_alive_while_its_lock_is_held() {
    let (_folder, store) = store();
    let session = store.create_session().unwrap();
    let id = session.id().to_owned();
    assert!(store.is_alive(&id));
    let seen = store.find(&id).unwrap();
    assert!(seen.lock().unwrap().is_none());
    assert!(session.lock().unwrap().is_some());
    drop(session);
    assert!(!store.is_alive(&id));
    let lock = seen.lock().unwrap().unwrap();
    assert!(store.is_alive(&id));
    drop(lock);
    assert!(!store.is_alive(&"0".repeat(32)));
    assert!(!store.is_alive(&id_of("0")));
    assert!(!store.is_alive("../../x"));
}

#[test]
fn a_copied_folder_does_not_have_the_lock() {
    let (folder, store) = store();
    let session = store.create_session().unwrap();
    let (id, mark) = (session.id().to_owned(), session.mark().unwrap());
    assert_eq!(store.marked(&id, &mark), Marked::Held);
    let copy = folder.path().join("copy");
    for folder in ["", SESSIONS, &format!("{SESSIONS}/{id}")] {
        fs::create_dir(copy.join(folder)).unwrap();
    }
    for file in [INSTALL.to_owned(), format!("{SESSIONS}/{id}/lock")] {
        fs::copy(store.folder().join(&file), copy.join(&file)).unwrap();
    }
    let copy = SessionStore::open(&copy).unwrap();
    // The control: by its id and its name alone, the session would be this install's and over.
    assert_eq!(copy.install(), store.install());
    assert!(!copy.is_alive(&id));
    assert_eq!(copy.marked(&id, &mark), Marked::Absent);
    drop(session);
    assert_eq!(store.marked(&id, &mark), Marked::Free);
    assert_eq!(store.marked(&id, ""), Marked::Absent);
    assert_eq!(store.marked("../x", &mark), Marked::Absent);
}

/// What an earlier release left stays, its locks are known, and a person is told once.
#[test]
fn the_directory_of_an_earlier_release_is_returned_once() {
    let (_folder, store) = store();
    assert_eq!(store.earlier_release().unwrap(), None);
    let (waiting, applied) = ("a".repeat(32), "b".repeat(32));
    let runs = store.folder().join(EARLIER);
    fs::create_dir(&runs).unwrap();
    let mut held = Vec::new();
    for (id, state) in [(&waiting, "kept"), (&applied, "applied")] {
        fs::create_dir(runs.join(id)).unwrap();
        held.push(SessionFolder::create(id.clone(), runs.join(id)).unwrap());
        let record = format!(r#"{{"v":1,"run":"{id}","changes":{{"state":"{state}"}}}}"#);
        fs::write(runs.join(id).join("record.json"), record).unwrap();
    }
    assert!(store.is_alive(&waiting));
    let mark = held[0].mark().unwrap();
    assert_eq!(store.marked(&waiting, &mark), Marked::Held);
    drop(held);
    assert_eq!(store.marked(&waiting, &mark), Marked::Free);
    assert_eq!(store.earlier_release().unwrap(), Some((runs, 1)));
    assert_eq!(store.earlier_release().unwrap(), None);
    assert!(matches!(store.find(&waiting), Err(FindError::None(_))));
}

#[test]
fn a_record_is_replaced_as_a_whole_and_events_are_appended() {
    let (_folder, store) = store();
    let session = store.create_session().unwrap();
    assert!(session.record().unwrap().is_none());
    let mut record = Record::begun(session.id(), "2026-11-21T10:00:00Z".parse().unwrap());
    session.write_record(&record).unwrap();
    record.exit = Some(130);
    session.write_record(&record).unwrap();
    assert_eq!(session.record().unwrap(), Some(record));
    session.events().unwrap().add(&1).unwrap();
    let mut events = session.events().unwrap();
    events.add(&"two").unwrap();
    events.sync().unwrap();
    assert_eq!(fs::read_to_string(session.path().join("events.jsonl")).unwrap(), "1\n\"two\"\n");
    let left = fs::read_dir(session.path()).unwrap().count();
    assert_eq!(left, 3);
}

#[test]
fn the_events_show_whether_the_agent_began() {
    let (_folder, store) = store();
    let session = store.create_session().unwrap();
    let event = |name: &str| serde_json::json!({"n": 1, "event": name, "text": "request"});
    assert!(!session.has_request_event());
    session.events().unwrap().add(&event("note")).unwrap();
    assert!(!session.has_request_event());
    session.events().unwrap().add(&event("request")).unwrap();
    assert!(session.has_request_event());
}
