import sys

from mmseg_sclip_cli import main

if __name__ == '__main__':
    sys.exit(main(['weights', *sys.argv[1:]]))
