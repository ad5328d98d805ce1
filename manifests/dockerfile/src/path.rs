//! Paths in images: always with `/`, never of this host.

/// A path without `.`, `..` and doubled slashes, below a folder where it is relative. It never leaves the root.
pub(crate) fn absolute(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let whole = if path.starts_with('/') { [path, ""] } else { [folder, path] };
    for part in whole.iter().flat_map(|text| text.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::absolute;

    #[test]
    fn paths_stay_below_the_root() {
        assert_eq!(absolute("/a/b", "../c/./d//"), "/a/c/d");
        assert_eq!(absolute("/a", "/x/../.."), "/");
        assert_eq!(absolute("", ""), "/");
    }
}
