import sys

from mmseg_sclip.cli.check import main
from mmseg_sclip.errors import run

if __name__ == '__main__':
    sys.exit(run(main))
