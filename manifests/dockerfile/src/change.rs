//! Changes of an image's configuration without a build: what `--change` of `image import` gives, an instruction each.

use std::sync::Arc;

use crate::dockerfile::{Dockerfile, read};
use crate::image::Image;
use crate::instruction::What;
use crate::lines::first_word;
use crate::plan::{Wishes, plan};
use crate::problem::{Problem, Problems, cut};
use crate::stage::{StageEnd, StageRun};

/// What is changed has this name in messages.
const FILE: &str = "--change";
/// What may be changed so.
const ALLOWED: &str = "CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, \
                       USER, VOLUME and WORKDIR can be";

/// Changes an image's configuration by instructions that touch no files. Its history stays as it is.
///
/// All that is wrong with the changes is told.
pub fn change(image: Image, changes: &[String]) -> Result<Image, Problems> {
    let mut instructions = Vec::new();
    let mut problems = Vec::new();
    let mut dockerfile = read("FROM scratch", FILE)?;
    for text in changes {
        match one(text) {
            Ok(one) => instructions.extend(one.stages[0].instructions.iter().cloned()),
            Err(found) => problems.extend(found.0),
        }
    }
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    // They are on no line of a file.
    for instruction in &mut instructions {
        instruction.line = 0;
    }
    dockerfile.stages[0].instructions = Arc::new(instructions);
    let plan = plan(&dockerfile, &Wishes::default())?;
    let history = image.history.clone();
    let mut run = StageRun::begin(&plan, 0, &StageEnd::from(image))?;
    while run.next_step()?.is_some() {}
    Ok(Image { history, ..run.finish().image })
}

/// One change, which is one instruction.
fn one(text: &str) -> Result<Dockerfile, Problems> {
    let wrong = |message: String, hint: Option<&str>| {
        let (file, hint) = (FILE.to_owned(), hint.map(str::to_owned));
        Problems(vec![Problem { file, line: 0, message, hint }])
    };
    let read = read(&format!("FROM scratch\n{text}"), FILE).map_err(|mut problems| {
        problems.0.iter_mut().for_each(|problem| problem.line = 0);
        problems
    })?;
    let [stage] = read.stages.as_slice() else {
        return Err(wrong("cannot have `FROM`".to_owned(), Some(ALLOWED)));
    };
    let [instruction] = stage.instructions.as_slice() else {
        return Err(wrong(format!("`{}` is not one instruction", cut(text)), Some(ALLOWED)));
    };
    match &instruction.what {
        What::Cmd(_)
        | What::Entrypoint(_)
        | What::Env(_)
        | What::Expose(_)
        | What::Healthcheck(_)
        | What::Label(_)
        | What::Onbuild(_)
        | What::Stopsignal(_)
        | What::User(_)
        | What::Volume(_)
        | What::Workdir(_) => Ok(read),
        What::From(_)
        | What::Arg(_)
        | What::Copy(_)
        | What::Run(_)
        | What::Shell(_)
        | What::Maintainer(_) => {
            let (word, _) = first_word(&instruction.text);
            Err(wrong(format!("`{word}` cannot be given so"), Some(ALLOWED)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Platform;

    fn changed(changes: &[&str]) -> Result<Image, String> {
        let changes: Vec<String> = changes.iter().map(|text| (*text).to_owned()).collect();
        change(Image::scratch(&Platform::default()), &changes).map_err(|error| error.to_string())
    }

    #[test]
    fn instructions_change_a_configuration_in_order() {
        let image = changed(&[
            r#"CMD ["b"]"#,
            r#"entrypoint ["/bin/a", "-x"]"#,
            "ENV HOME=/h",
            "ENV DATA=$HOME/data",
            "WORKDIR $DATA",
            "WORKDIR more",
            "EXPOSE 80 53/udp",
            "LABEL a=1 b=\"2 3\"",
            "ONBUILD RUN make",
            "STOPSIGNAL SIGINT",
            "USER 1:2",
            "VOLUME /v",
            "HEALTHCHECK NONE",
        ])
        .unwrap();
        let config = image.config;
        assert_eq!(config.cmd.unwrap(), ["b"], "it was given with the entry point");
        assert_eq!(config.entrypoint.unwrap(), ["/bin/a", "-x"]);
        assert_eq!(config.env[1..], ["HOME=/h", "DATA=/h/data"]);
        assert_eq!(config.working_dir, "/h/data/more");
        assert!(config.exposed_ports.iter().eq(["53/udp", "80/tcp"]));
        assert_eq!(config.labels["b"], "2 3");
        assert_eq!(config.on_build, ["RUN make"]);
        assert_eq!((&*config.stop_signal, &*config.user), ("SIGINT", "1:2"));
        assert!(config.volumes.contains("/v"));
        assert_eq!(config.healthcheck.unwrap().test, ["NONE"]);
        assert!(image.history.is_empty());
        assert_eq!(changed(&[]).unwrap().config.cmd, None);
    }

    #[test]
    fn what_is_no_change_is_refused() {
        let table = [
            ("RUN make", "`--change`: `RUN` cannot be given so\n  hint: CMD, ENTRYPOINT"),
            ("COPY a b", "`COPY` cannot be given so"),
            ("ARG x", "`ARG` cannot be given so"),
            ("FROM busybox", "cannot have `FROM`"),
            ("CMD a\nUSER b", "is not one instruction"),
            ("", "is not one instruction"),
            ("# nothing", "is not one instruction"),
            ("USR x", "do you mean `USER`?"),
            ("EXPOSE x", "`--change`: `EXPOSE`"),
            ("CMD", "`CMD` needs something after it"),
        ];
        for (text, expected) in table {
            let error = changed(&[text]).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let error = changed(&["RUN a", "USR b"]).unwrap_err();
        assert!(error.contains("`RUN`") && error.contains("USR"), "all are told: {error}");
    }
}
