"""Ships the top-level `configs/` and `tools/` inside the wheel, where mim looks for them; all else is in setup.cfg."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


class BuildWithConfigs(build_py):
    """`build_py` that adds `mmseg_sclip/.mim`; an editable install goes on using the checkout's folders."""

    def run(self) -> None:
        """Build the package, then copy what mim wants beside it."""
        super().run()
        if self.editable_mode:
            return
        mim = Path(self.build_lib) / 'mmseg_sclip' / '.mim'
        shutil.rmtree(mim, ignore_errors=True)  # a config deleted since the last build must not ship
        # What only developers run needs a checkout.
        for_developers = ('bench', 'benchmark.py', 'soak.py', 'tiny_clip', 'train_demo_clip.py')
        left_out = shutil.ignore_patterns('__pycache__', *for_developers)
        for folder in ('configs', 'tools'):
            shutil.copytree(ROOT / folder, mim / folder, ignore=left_out)
        shutil.copy2(ROOT / 'model-index.yml', mim)


setup(cmdclass={'build_py': BuildWithConfigs})
