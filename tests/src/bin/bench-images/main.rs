//! Images, in alternating rounds beside others' programs on the same host, registry and disk: a pull with its unpacking
//! beside skopeo with umoci and beside containerd's `ctr`, the unpacking alone beside tar, the build of the counter app
//! beside buildah, and copies from host to host. `BENCH_ROUNDS` sets the number of rounds (3).
#![expect(clippy::print_stderr, reason = "a program that says how far it is")]

mod build;
mod lab;
mod made;
mod parts;
mod peers;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use swarm_tests::bench::{
    Beside, Case, Outcome, folder, output, report_beside, root, rounds, text,
};

use build::Builds;
use lab::{HOSTS, Lab, To, sync};
use made::{Files, Made, make};
use peers::{Cost, Tools};

const PULL: Case = Case { name: "pull and unpack, 10 layers, 500 MB", unit: "s" };
const RATE: Case = Case { name: "pull and unpack, files' bytes in a second", unit: "MB/s" };
const MEMORY: Case = Case { name: "pull and unpack, the largest program", unit: "MiB" };
const UNPACK: Case = Case { name: "unpack alone", unit: "s" };
const UNPACK_RATE: Case = Case { name: "unpack alone, files' bytes in a second", unit: "MB/s" };
const COPY_ONE: Case = Case { name: "200 MB image to one further host", unit: "s" };
const COPY_ALL: Case = Case { name: "200 MB image to five further hosts", unit: "s" };
const PART_ONE: Case = Case { name: "a part each: 200 MB to one further host", unit: "s" };
const PART_ALL: Case = Case { name: "a part each: 200 MB to five further hosts", unit: "s" };
const PART_RATIO: Case = Case { name: "a part each: five, of the time for one", unit: "x" };

const NOTES: &str = "\
Pull: ours from `swarmctl deploy` to the image ready on the host, so with the deploy. Ours has synced the blobs by then
and syncs the unpacked layers behind; containerd has synced the blobs; skopeo and umoci sync nothing.
Unpack alone: ours with the deploy again, from blobs on the host; tar as `tar -xzf`, one layer after another or two at
once, without comparing a digest or syncing. Builds: the base image is there; ours with the way to the node and back.
Copies: from the deploy until all hosts have it ready; the one host that has it runs the task as well. All hosts of the
lab unpack on this machine's processors. With a part each, a host has a sixth of them, however idle the others are, as
hosts with processors of their own do: what is left is how well one image spreads.
";

/// Everything that is made, gone in the end.
struct Work(PathBuf);

impl Drop for Work {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} stays: {error}", self.0.display());
        }
    }
}

fn main() -> Outcome<()> {
    let count = rounds(3)?;
    let work = Work(folder()?.join("images"));
    if work.0.exists() {
        fs::remove_dir_all(&work.0)?;
    }
    fs::create_dir_all(&work.0)?;
    let tools = Tools::unpacked()?;
    eprintln!("making images of files of /usr");
    let mut files = Files::of_usr()?;
    let large = make(&tools, &work.0, "large", 10, &mut files)?;
    eprintln!("{} MB in {} files", large.bytes / 1_000_000, large.files);
    let small = make(&tools, &work.0, "shared", 4, &mut files)?;
    let storage = work.0.join("registry");
    let from = root().join("target/images/registry");
    output(Command::new("cp").args(["-r", text(&from), text(&storage)]))?;
    let lab = Lab::up(&storage, &work.0)?;
    let tools = tools.on(lab.network());
    tools.push(&large)?;
    let (rows, folders) = Default::default();
    let mut bench = Bench { work: &work.0, tools, lab, large, small, rows, folders };
    for round in 1..=count {
        eprintln!("round {round} of {count}");
        bench.pull()?;
        bench.unpack()?;
        bench.share()?;
    }
    eprintln!("builds");
    let builds = Builds::measure(&bench.tools, &work.0, bench.lab.first(), count)?;
    let mut rows = bench.rows.0;
    rows.extend(builds.rows());
    report_beside("images", &rows)?;
    eprintln!("{NOTES}");
    Ok(())
}

/// The lines of the table, each with one more number in each round.
#[derive(Default)]
struct Rows(Vec<Beside>);

impl Rows {
    fn add(&mut self, case: Case, ours: f64, peers: &[(&'static str, f64)]) {
        let at = self.0.iter().position(|row| row.case.name == case.name);
        let at = at.unwrap_or_else(|| {
            self.0.push(Beside { case, ours: Vec::new(), peers: Vec::new() });
            self.0.len() - 1
        });
        let row = &mut self.0[at];
        row.ours.push(ours);
        for (name, figure) in peers {
            match row.peers.iter_mut().find(|(known, _)| known == name) {
                Some((_, figures)) => figures.push(*figure),
                None => row.peers.push((*name, vec![*figure])),
            }
        }
    }
}

struct Bench<'a> {
    work: &'a Path,
    tools: Tools,
    lab: Lab,
    large: Made,
    small: Made,
    rows: Rows,
    folders: u32,
}

impl Bench<'_> {
    /// An own folder for each run of a peer. None is deleted before the end: see `Lab::put_layers_aside`.
    fn next_folder(&mut self) -> PathBuf {
        self.folders += 1;
        self.work.join(self.folders.to_string())
    }

    fn pull(&mut self) -> Outcome<()> {
        let folders = [self.next_folder(), self.next_folder()];
        let image = &self.large;
        let ours = self.lab.deploy_on_first(image)?;
        Lab::stop()?;
        self.lab.forget(image)?;
        sync()?;
        let skopeo = self.tools.skopeo_and_umoci(&image.name, &folders[0])?;
        sync()?;
        let containerd = self.tools.containerd(&image.name, &folders[1])?;
        sync()?;
        eprintln!("  {ours:.2?}\n  skopeo {skopeo:.2?}\n  ctr {containerd:.2?}");
        let peers = |of: fn(Cost, u64) -> f64| {
            [("skopeo, umoci", of(skopeo, image.bytes)), ("ctr", of(containerd, image.bytes))]
        };
        self.rows.add(PULL, ours.seconds, &peers(|cost, _| cost.seconds));
        self.rows.add(RATE, rate(ours, image.bytes), &peers(rate));
        self.rows.add(MEMORY, ours.memory, &peers(|cost, _| cost.memory));
        Ok(())
    }

    fn unpack(&mut self) -> Outcome<()> {
        let (lab, image) = (&self.lab, &self.large);
        lab.deploy_on_first(image)?;
        Lab::stop()?;
        lab.lose_layers(image)?;
        let ours = lab.deploy(image, To::One(0))?;
        Lab::stop()?;
        lab.forget(image)?;
        sync()?;
        let one = self.tar(1)?;
        let two = self.tar(2)?;
        eprintln!("  unpack {ours:.2} s, tar {one:.2} s, two tars {two:.2} s");
        #[expect(clippy::cast_precision_loss, reason = "a number of bytes of a table")]
        let rate = |seconds: f64| self.large.bytes as f64 / 1e6 / seconds;
        let rates = [("tar -xzf", rate(one)), ("two at once", rate(two))];
        let ours_rate = rate(ours);
        self.rows.add(UNPACK, ours, &[("tar -xzf", one), ("two at once", two)]);
        self.rows.add(UNPACK_RATE, ours_rate, &rates);
        Ok(())
    }

    /// All layers by tar, so many at the same time, each into a folder of its own.
    fn tar(&mut self, at_once: usize) -> Outcome<f64> {
        let folder = self.next_folder();
        fs::create_dir_all(&folder)?;
        sync()?;
        let begun = Instant::now();
        for (turn, blobs) in self.large.blobs.chunks(at_once).enumerate() {
            let mut running = Vec::new();
            for (number, blob) in blobs.iter().enumerate() {
                let layer = folder.join(format!("{turn}-{number}"));
                fs::create_dir(&layer)?;
                let mut tar = Command::new("tar");
                running.push(tar.args(["-C", text(&layer), "-xzf", text(blob)]).spawn()?);
            }
            for mut tar in running {
                if !tar.wait()?.success() {
                    return Err("tar failed".into());
                }
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        Ok(seconds)
    }

    fn share(&mut self) -> Outcome<()> {
        self.copy(COPY_ONE, To::One(HOSTS - 1))?;
        self.copy(COPY_ALL, To::All)?;
        self.lab.limit(true)?;
        let one = self.copy(PART_ONE, To::One(HOSTS - 1))?;
        let all = self.copy(PART_ALL, To::All)?;
        self.lab.limit(false)?;
        self.rows.add(PART_RATIO, all / one, &[]);
        Ok(())
    }

    fn copy(&mut self, case: Case, to: To) -> Outcome<f64> {
        self.lab.load(&self.small)?;
        let seconds = self.lab.deploy(&self.small, to)?;
        Lab::stop()?;
        self.lab.forget(&self.small)?;
        eprintln!("  {}: {seconds:.2} s", case.name);
        self.rows.add(case, seconds, &[]);
        Ok(seconds)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number of bytes of a table")]
fn rate(cost: Cost, bytes: u64) -> f64 {
    bytes as f64 / 1e6 / cost.seconds
}
