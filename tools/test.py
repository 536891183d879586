import sys

from mmseg_sclip_cli import main

if __name__ == '__main__':
    sys.exit(main(['test', *sys.argv[1:]]))
