#!/usr/bin/env bash
# Every crate that is to be published builds from its own archive, which has its licenses and its
# front page in it. The README says how many crates that takes.
#
# The crates depend on each other and are not on crates.io. Cargo 1.90 and newer packages them
# together; it refuses files that are not committed. Its own verification is not for us: what it
# unpacks and builds stays in the cargo home and in the target directory, and with the same version
# number and other content the next run would take it again. So the archives are unpacked into a
# workspace of their own here, in which they find each other.
set -euo pipefail

# All packages of the workspace but those that say otherwise. A package has the name of its folder.
mapfile -t published < <(grep -L '^publish = false$' crates/*/Cargo.toml | xargs -n 1 dirname | xargs -n 1 basename)
[ "${#published[@]}" -ge 7 ] || {
    echo "ci/package.sh: only ${#published[@]} crates would be published: ${published[*]}" >&2
    exit 1
}

target=$(. ci/lib.sh && target_dir .)
dir="$target/package"
rm -rf "$dir"
cargo package --locked --no-verify "${published[@]/#/--package=}"

wrong=0
for crate in "${published[@]}"; do
    archives=("$dir/$crate"-[0-9]*.crate)
    files=$(tar -tzf "${archives[0]}")
    for file in LICENSE-MIT LICENSE-APACHE README.md; do
        if ! grep -q "^[^/]*/$file\$" <<<"$files"; then
            echo "$crate's archive has no $file" >&2
            wrong=1
        fi
    done
    # A link in the repository is a file in the archive.
    if tar -tvzf "${archives[0]}" | grep -q '^l'; then
        echo "$crate's archive has a symbolic link" >&2
        wrong=1
    fi
    printf '%-14s %4d files %5d KiB\n' "$crate" "$(wc -l <<<"$files")" "$(($(stat -c %s "${archives[0]}") / 1024))"
done
[ "$wrong" -eq 0 ]

mkdir "$dir/workspace"
{
    echo '[workspace]'
    echo 'resolver = "3"'
    echo 'members = ["*"]'
    echo '[patch.crates-io]'
    for crate in "${published[@]}"; do
        # With today's time on its files (-m): those in an archive are old, and cargo builds by it.
        mkdir "$dir/workspace/$crate"
        tar -xzmf "$dir/$crate"-[0-9]*.crate -C "$dir/workspace/$crate" --strip-components=1
        echo "$crate = { path = \"$crate\" }"
    done
} >"$dir/workspace/Cargo.toml"
# The versions of everything else are those of the repository. Not --locked: what only the packages
# that stay behind need leaves the file.
cp Cargo.lock "$dir/workspace/"
cargo build --manifest-path "$dir/workspace/Cargo.toml" --workspace --target-dir "$target"
echo "${#published[@]} crates build from their archives"

# The README says how many crates a build is of: those of the lock file, for this machine's target.
crates() {
    cargo tree --locked --edges normal,build --prefix none --no-dedupe "$@" | awk '{ print $1 }' | sort -u | wc -l
}
goby=$(crates -p goby)
without=$((goby - $(crates -p goby --no-default-features)))
http=$(crates -p goby-http)
small=$(crates -p goby-http --no-default-features)
for claim in "\`goby\` alone is $goby crates. Its feature \`tracing\`, on by default, is $without of them" \
    "\`goby-http\` is $http crates, $small without its default features"; do
    if ! tr '\n' ' ' <README.md | grep -qF "$claim"; then
        echo "README.md does not say: $claim" >&2
        exit 1
    fi
done
