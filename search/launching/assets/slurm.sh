# Above: place (for the job's own files), folder (the study's, or its address), search (the command), cpus (of a node), warn_s.
set -u
log() { echo "rarecall: $*" >&2; }

there() { # whether there is the study
  case $folder in *://*) rarecall status "$folder" >/dev/null 2>&1 ;; *) [ -f "$folder/study.yaml" ] ;; esac
}

# Slurm sends USR1 to this shell alone. The process that has the study looks for the file.
request() { case $folder in *://*) rarecall stop "$folder" ;; *) touch "$folder/stop" ;; esac; }
stopping=
step=
ask_to_stop() {
  stopping=1
  log "$warn_s s are left; asking the search to stop"
  until request >/dev/null 2>&1 || [ -z "$step" ] || ! kill -0 "$step" 2>/dev/null; do sleep 1; done
}
trap ask_to_stop USR1

mkdir -p "$place" || exit 1
rm -f "$folder/stop" # of an attempt that ended without reading it
there && search+=(--resume)

# Whoever reaches Ray's ports may run code as this user, unless there is a token. It lives as long as the attempt.
RAY_AUTH_TOKEN_PATH=$(mktemp "$place/.ray-token-XXXXXX") || exit 1
RAY_TMPDIR=$(mktemp -d /tmp/ray-XXXXXX) || exit 1
clean() { rm -rf "$RAY_AUTH_TOKEN_PATH" "$RAY_TMPDIR" "$folder/stop"; }
trap clean EXIT
python -c 'import secrets; print(secrets.token_hex(32))' >"$RAY_AUTH_TOKEN_PATH" || exit 1
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH RAY_TMPDIR RAY_USAGE_STATS_ENABLED=0
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300

# One node needs no network. Of several, the first is the head, and this shell runs there.
nodes=$SLURM_JOB_NUM_NODES
head=127.0.0.1
[ "$nodes" -gt 1 ] && head=$(hostname -I | cut -d ' ' -f 1)
srun --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 --cpus-per-task="$cpus" \
  ray symmetric-run --address "$head:6379" --min-nodes "$nodes" --num-cpus "$cpus" -- \
  "${search[@]}" --address "$head:6379" &
step=$!
while kill -0 "$step" 2>/dev/null; do wait "$step"; done # a signal ends `wait`, not what it waits for

# `ray symmetric-run` ends with 0 where Ray could not start, so the study says what has come of it.
if ! status=$(rarecall status --json "$folder"); then
  log "the search has not begun"
  exit 1
elif grep -q '"search_goes_on": false' <<<"$status"; then
  log "the search is finished"
elif [ -n "$stopping" ]; then
  log "the search goes on when this job, requeued, starts again"
  clean # as this shell is killed by what follows
  scontrol requeue "$SLURM_JOB_ID"
else
  log "the search has ended before it was finished; sbatch goes on with it"
  exit 1
fi
