#!/usr/bin/env bash
# Every crate that is to be published builds from its own archive, which has its licences and its
# front page in it. The README says how many crates that takes.
#
# The crates depend on each other and are not on crates.io: cargo 1.90 and newer packages them
# together, and each finds the others in a registry that cargo makes of the archives. Cargo refuses
# files that are not committed, so this needs a clean tree. The archives are target/package/*.crate.
set -euo pipefail

# All packages of the workspace but those that say otherwise. A package has the name of its folder.
mapfile -t published < <(grep -L '^publish = false$' crates/*/Cargo.toml | xargs -n 1 dirname | xargs -n 1 basename)
[ "${#published[@]}" -ge 6 ] || {
    echo "ci/package.sh: only ${#published[@]} crates would be published: ${published[*]}" >&2
    exit 1
}

target="${CARGO_TARGET_DIR:-target}"
rm -rf "$target/package"
cargo package --locked "${published[@]/#/--package=}"

wrong=0
for crate in "${published[@]}"; do
    archives=("$target/package/$crate"-[0-9]*.crate)
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
    "\`goby-http\` is $http crates, $small without its features \`tls\` and \`tracing\`"; do
    if ! tr '\n' ' ' <README.md | grep -qF "$claim"; then
        echo "README.md does not say: $claim" >&2
        exit 1
    fi
done
