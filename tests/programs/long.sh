# A script of bash's own commands only: arrays, functions, arithmetic, patterns, expansions, traps, subshell-free. No regular
# expressions: libc's have bytes in the heap that nobody has written (`re_token_t`), and what a stub leaves below the stack gets
# there. The number of rounds is the argument.
shopt -s extglob
declare -A seen
declare -a numbers
total=0

fibonacci() {
    local n=$1
    if ((n < 2)); then
        result=$n
        return
    fi
    local one
    fibonacci $((n - 1))
    one=$result
    fibonacci $((n - 2))
    result=$((one + result))
}

sort_numbers() {
    local i j swap
    for ((i = 1; i < ${#numbers[@]}; i++)); do
        swap=${numbers[i]}
        for ((j = i; j > 0 && numbers[j - 1] > swap; j--)); do
            numbers[j]=${numbers[j - 1]}
        done
        numbers[j]=$swap
    done
}

classify() {
    case $1 in
    *[13579]) kind=odd ;;
    *[02468]) kind=even ;;
    ?(-)+([0-9])) kind=number ;;
    *) kind=other ;;
    esac
}

for ((round = 0; round < $1; round++)); do
    numbers=()
    for ((n = 0; n < 20; n++)); do
        numbers+=($(((round * 7919 + n * 104729) % 1000)))
    done
    sort_numbers
    for number in "${numbers[@]}"; do
        classify "$number"
        seen[$kind]=$((${seen[$kind]:-0} + number))
    done
    text="round $round: ${numbers[*]}"
    text=${text//[0-4]/x}
    second=${text#*[a-z] }
    second=${second%%[!0-9x]*}
    total=$((total + ${#second}))
    printf -v line '%-10s|%05d|%x|%q' "${text:6:8}" "$round" "$round" "${text: -4}"
    IFS=, read -r -a fields <<<"a,b c,$round,,e"
    total=$((total + ${#fields[@]} + ${#line}))
    eval "computed_$((round % 5))=\$((round ** 2 + \${#text}))"
done
fibonacci 12
echo "fibonacci $result, total $total, $line"
for key in even odd; do echo "$key ${seen[$key]}"; done
echo "${!computed_@} ${computed_0:-none} ${text^^}"
trap 'echo "the end"' EXIT
