# Sourced: `quietly <command…>` keeps a command's output in .headwater/log/setup.log and shows the
# end of it only if the command fails, which ends the script.
setup_log="$PWD/.headwater/log/setup.log"

quietly() {
    mkdir -p "$(dirname "$setup_log")"
    echo "== $(date -u +%FT%TZ) $*" >>"$setup_log"
    local begin
    begin=$(wc -l <"$setup_log")
    if ! "$@" >>"$setup_log" 2>&1; then
        tail -n "+$((begin + 1))" "$setup_log" | tail -n 30 >&2
        echo "headwater: this failed: $*" >&2
        echo "headwater: everything it said is in $setup_log; mend the cause and run it again" >&2
        exit 1
    fi
}
