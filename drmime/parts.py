"""The named parts of a registration and the location of their classes: one dict for each kind.

Names are known without importing torch, so the command line reports a misspelt one at once; a part is imported when it is
first used.
"""

from drmime.registry import Parts

METRICS = Parts(
    {
        "mine": "drmime.compare.mine:MINE",
        "mattes": "drmime.compare.histogram:MattesMI",
        "nmi": "drmime.compare.histogram:NormalisedMI",
        "jhmi": "drmime.compare.histogram:JointHistogramMI",
        "ncc": "drmime.compare.moments:NCC",
        "mse": "drmime.compare.moments:MSE",
        "angle": "drmime.compare.angle:GradientAngle",
        "alpha_amd": "drmime.compare.alpha_amd:AlphaAMD",
    }
)
TRANSFORMS = Parts(
    {
        "translation": "drmime.transform.linear:translation",
        "rigid": "drmime.transform.linear:rigid",
        "similarity": "drmime.transform.linear:similarity",
        "affine": "drmime.transform.linear:affine",
        "projective": "drmime.transform.linear:projective",
        "lie": "drmime.transform.linear:LieGroup",
        "velocity": "drmime.transform.elastic:Velocity",
        "bspline": "drmime.transform.elastic:BSpline",
        "polyaffine": "drmime.transform.elastic:Polyaffine",
        "tps": "drmime.transform.tps:ThinPlate",
    }
)
SAMPLERS = Parts(
    {
        "uniform": "drmime.sampling:Uniform",
        "jittered": "drmime.sampling:Jittered",
        "all": "drmime.sampling:EveryPixel",
        "edges": "drmime.sampling:Edges",
    }
)
PROPOSERS = Parts(  # what proposes starts
    {
        "identity": "drmime.start.propose.simple:Identity",
        "centre": "drmime.start.propose.simple:Centre",
        "mass": "drmime.start.propose.simple:Mass",
        "moments": "drmime.start.propose.moments:Moments",
        "search": "drmime.start.propose.search:Search",
        "phase": "drmime.start.propose.phase:PhaseCorrelation",
        "fourier_mellin": "drmime.start.propose.phase:FourierMellin",
        "features": "drmime.start.propose.features:Features",
        "sift": "drmime.start.propose.sift:SIFT",
        "landmarks": "drmime.start.propose.landmarks:Landmarks",
    }
)
OBSERVERS = Parts(
    {
        "progress": "drmime.observers:Progress",
        "tensorboard": "drmime.observers:TensorBoard",
    }
)
SAVED_TRANSFORMS = Parts(  # kinds of result that `Registration.save` writes
    {
        "matrix": "drmime.transform.linear:MatrixTransform",
        "lie": "drmime.transform.linear:LieTransform",
        "velocity": "drmime.transform.lattice_transform:VelocityTransform",
        "bspline": "drmime.transform.lattice_transform:BSplineTransform",
        "tps": "drmime.transform.tps:ThinPlateTransform",
        "chain": "drmime.transform.base:Chain",
        "field": "drmime.transform.field:FieldTransform",
        "inverse": "drmime.transform.field:Inverse",
    }
)
TRANSFORM_FORMATS = Parts(  # files of transforms; of those with the same ending the first is written
    {
        "drmime": "drmime.transform.formats.plain:Json",
        "itk": "drmime.transform.formats.itk:Itk",
        "displacements": "drmime.transform.formats.displacements:Displacements",
        "elastix": "drmime.transform.formats.elastix:Elastix",
        "fsl": "drmime.transform.formats.fsl:Fsl",
        "freesurfer": "drmime.transform.formats.freesurfer:FreeSurfer",
        "afni": "drmime.transform.formats.afni:Afni",
        "ngff": "drmime.transform.formats.ngff:Ngff",
        "qupath": "drmime.transform.formats.qupath:QuPath",
        "warpy": "drmime.transform.formats.qupath:Warpy",
        "matrix": "drmime.transform.formats.plain:Matrix",
        "bigwarp": "drmime.transform.formats.bigwarp:BigWarp",
    }
)
TRANSFORM_OBJECTS = Parts(  # transforms in memory, by the package of their class
    {
        "SimpleITK": "drmime.transform.formats.itk:of_simpleitk",
        "skimage": "drmime.transform.formats.objects:of_skimage",
        "numpy": "drmime.transform.formats.objects:of_array",
        "torch": "drmime.transform.formats.objects:of_array",
    }
)
POINT_FORMATS = Parts(  # files of points; the first that the contents fit is used
    {
        "geojson": "drmime.points.geojson:GeoJson",
        "deeplabcut": "drmime.points.tables:DeepLabCut",
        "napari": "drmime.points.tables:Napari",
        "landmarks": "drmime.points.tables:Landmarks",
    }
)
INTERPOLATIONS = Parts(
    {
        "nearest": "drmime.transform.interpolate:nearest",
        "linear": "drmime.transform.interpolate:linear",
        "cubic": "drmime.transform.interpolate:cubic",
        "bspline": "drmime.transform.interpolate:cubic",  # the name that ITK and elastix give it
        "lanczos": "drmime.transform.interpolate:lanczos",
    }
)
LABEL_INTERPOLATIONS = ("nearest", "majority")

NAMES = {  # known names of the options that the command line checks before torch is imported
    "transform": tuple(TRANSFORMS),
    "metric": tuple(METRICS),
    "sampler": tuple(SAMPLERS),
    "start": ("auto", "none", *PROPOSERS),
    "interpolation": tuple(dict.fromkeys((*INTERPOLATIONS, *LABEL_INTERPOLATIONS))),
}
