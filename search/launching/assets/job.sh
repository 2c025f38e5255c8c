# What a job of Ray runs on its head: `sh job.sh RUNS STUDY search study.yaml …`. It places the data that came along, then
# runs the search, or goes on with the study if that is there. Runs in the folder that the job has brought.

runs=$1
folder=$2
shift 2
rarecall() { python -m rarecall "$@"; } # one that came along has put no script on the path
log() { echo "rarecall: $*" >&2; }
there() { # whether there is the study
  case $folder in *://*) rarecall status "$folder" >/dev/null 2>&1 ;; *) [ -f "$folder/study.yaml" ] ;; esac
}

# Folders of data are named after what is in them: one that is there already is the same.
for brought in data/*; do
  place=$runs/$brought
  if [ ! -e "$brought" ] || [ -d "$place" ]; then continue; fi
  mkdir -p "$runs/data" && partial=$(mktemp -d "$runs/data/.partial-XXXXXX") || exit 1
  if ! { chmod 755 "$partial" && cp -R "$brought/." "$partial" && mv -T "$partial" "$place"; }; then
    rm -rf "$partial"
    [ -d "$place" ] || exit 1 # else another job was faster
  fi
done

if there; then set -- "$@" --resume; fi
rarecall "$@" --address auto
status=$?
# 1: nothing feasible was found, which is an answer; or there is no rarecall.
if [ "$status" -eq 1 ] && there && said=$(rarecall status --json "$folder"); then
  case $said in *'"search_goes_on": false'*) log "the search is finished" && exit 0 ;; esac
fi
exit "$status"
