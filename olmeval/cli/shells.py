"""What Bash, Zsh and Fish are told so that they complete words that hold ``:`` or ``=``.

Task specs are full of colons, and ``--tasks=arc_easy`` is as good as ``--tasks arc_easy``. Shells
disagree about where such a word begins: Bash cuts it at both signs and replaces what follows the
last one, Zsh and Fish replace the whole. Click's own scripts leave that open, so these take their
place. What a script asks and answers is click's: a line of words in COMP_WORDS, then one completion
a line.
"""

import os

from click.shell_completion import (
    BashComplete,
    FishComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

BASH = r"""
%(complete_func)s() {
    local IFS=$'\n' line word cut="" type value
    # Bash has cut the words at colons; the line is still whole.
    line="${COMP_LINE:0:COMP_POINT}"
    word="${line##*[[:space:]]}"
    [[ $word == --*=* ]] && word="${word#*=}"
    [[ $COMP_WORDBREAKS == *:* && $word == *:* ]] && cut="${word%%"${word##*:}"}"
    COMPREPLY=()
    while IFS=',' read -r type value; do
        if [[ $type == dir ]]; then
            compopt -o dirnames
        elif [[ $type == file ]]; then
            compopt -o default
        elif [[ $type == plain ]]; then
            COMPREPLY+=("${value#"$cut"}")
        fi
    done < <(env COMP_WORDS="$line" %(complete_var)s=bash_complete "$1")
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""

FISH = r"""
function %(complete_func)s
    set -l line (commandline -cp)
    set -l word (commandline -ct)
    set -l flag (string replace -r -- '^(--[^=]+=)?.*' '$1' $word)
    set -l value (string replace -r -- '^--[^=]+=' '' $word)
    for completion in (env COMP_WORDS="$line" %(complete_var)s=fish_complete %(prog_name)s)
        set -l parts (string split -m 1 "," -- $completion)
        set -l found $parts[2]
        if test $parts[1] = dir
            set found (__fish_complete_directories $value)
        else if test $parts[1] = file
            set found (__fish_complete_path $value)
        end
        for one in $found
            printf '%%s\n' "$flag$one"
        end
    end
end

complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


def line_so_far() -> tuple[list[str], str]:
    """The words before the cursor, without the program, and the one that it ends."""
    line = os.environ["COMP_WORDS"]
    words = split_arg_string(line)[1:]
    begun = bool(words) and not line[-1:].isspace()
    return (words[:-1], words[-1]) if begun else (words, "")


class Bash(BashComplete):
    """Bash: the script hands over the line as it is and keeps what Bash replaces."""

    source_template = BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        """See click."""
        return line_so_far()


class Zsh(ZshComplete):
    """Zsh: ``--flag=`` is set apart from what is completed, and kept before it."""

    # With -U, compadd would forget what has been set apart.
    source_template = ZshComplete.source_template.replace(
        "    local -a response\n", "    local -a response\n    compset -P '--*='\n"
    ).replace("compadd -U -V", "compadd -V")


class Fish(FishComplete):
    """Fish: the script puts ``--flag=`` before every completion, as the whole word is replaced."""

    source_template = FISH

    def get_completion_args(self) -> tuple[list[str], str]:
        """See click."""
        return line_so_far()


SHELLS = {shell.name: shell for shell in (Bash, Zsh, Fish)}


def register() -> None:
    """Lets click answer with these when a shell asks."""
    for shell in SHELLS.values():
        add_completion_class(shell)
