#!/usr/bin/env bash
# The whole story against a running service, with nothing but curl: a manager makes a vfolder, uploads a directory,
# lists it and signs a URL; a client downloads by it, under the right name, and resumes.
#
#   npm start                  in one terminal
#   examples/quickstart.sh     in another
#
# A volume on S3 may redirect downloads to the storage, which curl follows with -L.
set -euo pipefail

url=${STORAGE_PROXY_URL:-http://127.0.0.1:6021}
token=${MANAGER_TOKEN:-$(cat "${DATA_DIR:-data}/manager-token")}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

manager() { curl -fsS -H "Authorization: Bearer $token" -H 'X-Backend-Request-ID: quickstart-1' "$@"; }
# Takes one string member out of a JSON answer; a program of yours has a JSON library.
member() { sed -E "s/.*\"$1\":\"([^\"]*)\".*/\1/"; }

echo '1. Create a vfolder'
folder=$(manager "$url/folders" --json '{"metadata": {"owner": "quickstart"}}' | member id)
echo "   $folder"

echo '2. Upload a directory of files, in one request'
mkdir -p "$work/data/reports"
head -c 3000000 /dev/urandom > "$work/data/sample.bin"
echo 'Hello, storage' > "$work/data/hello.txt"
echo 'a,b' > "$work/data/reports/résumé \"final\".csv"
forms=()
while IFS= read -r -d '' file; do
  name=${file#"$work/data/"}
  name=${name//\"/\\\"} # as curl wants a quote inside quotes
  forms+=(-F "file=@\"${file//\"/\\\"}\";filename=\"$name\"")
done < <(find "$work/data" -type f -print0)
manager "$url/folders/upload?folder=$folder&path=input" "${forms[@]}"
echo

echo '3. List it'
manager "$url/folders/$folder/files?recursive=true" -H 'Accept: application/x-ndjson'

echo '4. Sign a URL for a client, which needs no token of the manager'
sign() { manager "$url/folders/$folder/signed-urls" --json "{\"operation\": \"download\", \"paths\": [\"$1\"]}" | member url; }
signed=$(sign input/sample.bin)
echo "   $signed"

echo '5. Download under its name, and compare'
mkdir "$work/download"
cd "$work/download"
curl -fsSLOJ "$signed"
cmp sample.bin ../data/sample.bin
curl -fsSLOJ "$(sign 'input/reports/résumé \"final\".csv')"
ls -l

echo '6. Resume a download that broke off after a third'
head -c 1000000 ../data/sample.bin > broken.bin
curl -fsSL -C - -o broken.bin "$signed"
sha256sum sample.bin broken.bin
cmp broken.bin ../data/sample.bin

echo '7. Every answer has the request ID'
curl -fsS -o /dev/null -D - -H 'X-Backend-Request-ID: my-download-1' "$signed" | grep -i '^x-backend-request-id: my-download-1'

echo '8. Delete the vfolder'
manager -X DELETE "$url/folders/$folder"
echo 'Done.'
