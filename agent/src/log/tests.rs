use std::io::Write;

use super::*;

fn text(number: u32) -> String {
    format!("2024-01-01T00:00:{number:02}.000000000Z stdout F line {number}\n")
}

fn append(path: &Path, numbers: std::ops::Range<u32>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    for number in numbers {
        file.write_all(text(number).as_bytes()).unwrap();
    }
}

fn spread(folder: &Path) {
    append(&folder.join("1/container.log.2"), 0..1);
    append(&folder.join("1/container.log.1"), 1..2);
    append(&folder.join("1/container.log"), 2..3);
    append(&folder.join("2/container.log.1"), 3..5);
    append(&folder.join("2/container.log"), 5..8);
}

async fn all(folder: &Path, wish: Wish) -> Vec<String> {
    let (sender, mut receiver) = mpsc::channel(1);
    let reading = tokio::spawn(read(folder.to_owned(), wish, sender));
    let mut lines = Vec::new();
    while let Some(batch) = receiver.recv().await {
        lines.extend(batch.into_iter().map(|line| String::from_utf8(line.content).unwrap()));
    }
    reading.await.unwrap().unwrap();
    lines
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| format!("line {number}")).collect()
}

const ALL: Wish = Wish { tail: -1, since: 0, follow: false };

#[tokio::test]
async fn lines_come_in_order_over_all_files() {
    let folder = tempfile::tempdir().unwrap();
    spread(folder.path());
    assert_eq!(all(folder.path(), ALL).await, numbers(0..8));
    for tail in 0..10_u32 {
        let wish = Wish { tail: tail.into(), ..ALL };
        let expected = numbers(8_u32.saturating_sub(tail)..8);
        assert_eq!(all(folder.path(), wish).await, expected, "tail {tail}");
    }
    let since = line::parse(text(6).trim_end().as_bytes()).unwrap().time;
    assert_eq!(all(folder.path(), Wish { since, ..ALL }).await, numbers(6..8));
    assert!(all(&folder.path().join("none"), ALL).await.is_empty());
}

#[tokio::test]
async fn following_goes_over_rotations_and_attempts_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("1/container.log");
    append(&log, 0..2);
    let (sender, mut receiver) = mpsc::channel(8);
    let wish = Wish { tail: 1, since: 0, follow: true };
    let reading = tokio::spawn(read(folder.path().to_owned(), wish, sender));
    let mut seen = Vec::new();
    let mut expect = async |count: usize| {
        while seen.len() < count {
            let wait = tokio::time::timeout(Duration::from_secs(10), receiver.recv());
            let batch = wait.await.expect("nothing came").expect("it ended early");
            seen.extend(batch.into_iter().map(|line| String::from_utf8(line.content).unwrap()));
        }
        seen.clone()
    };
    expect(1).await;
    append(&log, 2..4);
    expect(3).await;
    // Written and rotated between two looks.
    append(&log, 4..5);
    fs::rename(&log, folder.path().join("1/container.log.1")).unwrap();
    append(&log, 5..6);
    expect(5).await;
    append(&folder.path().join("2/container.log"), 6..7);
    // A line that is not whole yet is not sent.
    let whole = text(7);
    let (half, rest) = whole.split_at(20);
    let second = folder.path().join("2/container.log");
    let mut file = File::options().append(true).open(&second).unwrap();
    file.write_all(half.as_bytes()).unwrap();
    expect(6).await;
    tokio::time::sleep(POLL * 3).await;
    file.write_all(rest.as_bytes()).unwrap();
    assert_eq!(expect(7).await, numbers(1..8));
    fs::write(folder.path().join("2").join(EXIT_FILE), "{}").unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(10), reading).await;
    ended.expect("it goes on").unwrap().unwrap();
}

#[test]
fn an_attempt_may_be_there_before_its_log_is() {
    let folder = tempfile::tempdir().unwrap();
    append(&folder.path().join("1/container.log"), 0..1);
    let mut reader = Reader::open(folder.path().to_owned(), ALL).unwrap();
    assert_eq!(reader.batch().unwrap().len(), 1);
    fs::write(folder.path().join("1").join(EXIT_FILE), "{}").unwrap();
    fs::create_dir(folder.path().join("2")).unwrap();
    for _ in 0..3 {
        assert!(!reader.has_more().unwrap());
        assert!(!reader.is_over(), "the attempt goes on");
    }
    append(&folder.path().join("2/container.log"), 1..2);
    assert!(reader.has_more().unwrap());
    assert_eq!(reader.batch().unwrap().len(), 1);
}

#[tokio::test]
async fn a_reader_that_nobody_listens_to_ends() {
    let folder = tempfile::tempdir().unwrap();
    append(&folder.path().join("1/container.log"), 0..1);
    let (sender, mut receiver) = mpsc::channel(1);
    let wish = Wish { follow: true, ..ALL };
    let reading = tokio::spawn(read(folder.path().to_owned(), wish, sender));
    receiver.recv().await.unwrap();
    drop(receiver);
    let ended = tokio::time::timeout(Duration::from_secs(10), reading).await;
    ended.expect("it goes on").unwrap().unwrap();
}
